"""Pictures of label maps that are too large to look at."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..rasters import Raster, RasterError, RasterLike, as_raster
from ..visualization import as_rgb, colour_labels, fit_size


def write_overlay(
    path: str | Path,
    image: Raster,
    labels: RasterLike,
    palette: Sequence[Sequence[int]] | None,
    max_side: int = 2048,
    opacity: float = 0.5,
) -> None:
    """Draw a label map over its scene, down-sampled.

    Args:
        path (str | Path): The picture to write; its suffix tells the format.
        image (Raster): The scene, blue-green-red; of other numbers of bands
            the first is shown. Other types than ``uint8`` are stretched.
        labels (RasterLike): Class ids of the same shape.
        palette (Sequence[Sequence[int]], optional): RGB per class.
        max_side (int): Longest side of the picture in pixels.
        opacity (float): Of the labels, from 0 to 1.

    Raises:
        RasterError: If the picture cannot be written.
    """
    size = fit_size(image.shape, max_side)
    scene = image.read(size=size)
    if scene.shape[2] != 3:
        scene = scene[..., :1]
    raster = as_raster(labels)
    # Grey: what has no data belongs to no class.
    none = min(np.iinfo(raster.dtype).max, 2**15 - 1)
    ids = raster.read(size=size, resampling='nearest', fill=none)[..., 0]
    picture = cv2.addWeighted(
        np.ascontiguousarray(as_rgb(scene)[..., ::-1]),
        1 - opacity,
        np.ascontiguousarray(colour_labels(ids, palette)[..., ::-1]),
        opacity,
        0,
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        written = cv2.imwrite(str(path), picture)
    except cv2.error:
        written = False
    if not written:
        raise RasterError(
            str(path), 'the picture cannot be written; use a name in .png'
        )
