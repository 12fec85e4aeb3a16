"""Pictures of label maps that are too large to look at."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..rasters import Raster, RasterError, RasterLike, as_raster
from ..visualization import colour_labels, fit_size


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
        image (Raster): The scene, blue-green-red.
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
        scene = np.repeat(scene[..., :1], 3, axis=2)
    ids = as_raster(labels).read(size=size, resampling='nearest')[..., 0]
    colours = colour_labels(ids, palette)[..., ::-1]
    picture = cv2.addWeighted(
        scene, 1 - opacity, np.ascontiguousarray(colours), opacity, 0
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
