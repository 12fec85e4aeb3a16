"""Pictures of predictions whose cost does not grow with the scene."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from mmseg.engine import SegVisualizationHook
from mmseg.structures import SegDataSample
from torch import Tensor

from ...rasters import ArrayRaster, Raster
from ...registry import HOOKS
from ...visualization import as_rgb, colour_labels, fit_size

Window = tuple[int, int, int, int]

# White pixels between the panels of a picture.
_GAP = 8
# Height of a line of the legend, pixels.
_LINE = 20
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@HOOKS.register_module()
class UHRVisualizationHook(SegVisualizationHook):
    """Draw an overview and fixed crops instead of every pixel.

    Each picture shows the image, the label map (if there is one) and the
    prediction side by side. The overview is the down-sampled scene with the
    names of its classes; the crops have full resolution and lie at the same
    places each time, so that pictures of different iterations compare. They
    go to the visualizer's backends under the names ``val_<image>_overview``
    and ``val_<image>_crop0`` (``test_...`` when testing), in validation with
    the training iteration as the step. Only the first rank draws, as stock.

    Args:
        draw (bool): Whether to draw at all. Defaults to False, as stock.
        interval (int): In validation, draw the first image of each
            ``interval``-th batch, starting with the first batch; the same
            images in every validation. Testing draws every image. Defaults
            to 50.
        show (bool): Whether to show pictures in windows instead of saving
            them. Defaults to False.
        wait_time (float): How long to show them, seconds; 0 waits for a key.
        backend_args (dict, optional): As stock; not used, because the images
            are those of the data loader.
        overview_size (int): Longest side of a panel of the overview, pixels.
        num_crops (int): Number of crops, spread evenly. Defaults to 4.
        crop_size (tuple[int]): Height and width of a crop, pixels.

    Raises:
        ValueError: If a size is below 1 pixel or ``num_crops`` below 0.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        show: bool = False,
        wait_time: float = 0.0,
        backend_args: dict | None = None,
        overview_size: int = 1024,
        num_crops: int = 4,
        crop_size: tuple[int, int] = (512, 512),
    ) -> None:
        super().__init__(draw, interval, show, wait_time, backend_args)
        if min(overview_size, *crop_size) < 1 or num_crops < 0:
            raise ValueError(
                f'UHRVisualizationHook: overview_size={overview_size}, '
                f'crop_size={tuple(crop_size)}, num_crops={num_crops}: sizes '
                'must be at least 1 pixel, num_crops at least 0'
            )
        self.overview_size = overview_size
        self.num_crops = num_crops
        self.crop_size = tuple(crop_size)
        self._test_index = 0

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[SegDataSample],
    ) -> None:
        """Draw the first image of each ``interval``-th batch.

        Args:
            runner (Runner): The runner; its visualizer draws.
            batch_idx (int): Index of the batch.
            data_batch (dict): With ``inputs``, rasters or tensors (C, H, W).
            outputs (Sequence[SegDataSample]): The predictions.
        """
        if self.draw and batch_idx % self.interval == 0:
            image = data_batch['inputs'][0]
            self._draw(runner, 'val', batch_idx, image, outputs[0])

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[SegDataSample],
    ) -> None:
        """Draw every image, see :meth:`after_val_iter`."""
        if not self.draw:
            return
        for image, sample in zip(data_batch['inputs'], outputs):
            self._test_index += 1
            self._draw(runner, 'test', self._test_index, image, sample)

    def _draw(
        self,
        runner: Runner,
        mode: str,
        number: int,
        source: Raster | Tensor,
        sample: SegDataSample,
    ) -> None:
        """Draw and record the pictures of one image.

        Args:
            runner (Runner): The runner.
            mode (str): ``'val'`` or ``'test'``.
            number (int): What to call a sample without ``img_path``.
            source (Raster | Tensor): The image, bands as the loader delivers
                them: blue, green, red.
            sample (SegDataSample): Its label map and prediction.
        """
        if not is_main_process():
            return
        image = _as_raster(source)
        label_maps = [
            _as_raster(getattr(sample, key).data)
            for key in ('gt_sem_seg', 'pred_sem_seg')
            if key in sample
        ]
        path = sample.get('img_path')
        name = f'{mode}_{Path(path).stem if path else number}'
        step = runner.iter if mode == 'val' else number
        meta = runner.visualizer.dataset_meta or {}
        palette = meta.get('palette')

        shape = label_maps[-1].shape
        size = fit_size(shape, self.overview_size)
        overview = _panels(image, label_maps, (0, 0, *shape), size, palette)
        legend = _legend(meta.get('classes') or (), palette, overview.shape[1])
        self._record(
            runner, f'{name}_overview', np.vstack([overview, legend]), step
        )
        crops = spread_windows(shape, self.crop_size, self.num_crops)
        for i, crop in enumerate(crops):
            picture = _panels(image, label_maps, crop, crop[2:], palette)
            self._record(runner, f'{name}_crop{i}', picture, step)

    def _record(
        self, runner: Runner, name: str, picture: np.ndarray, step: int
    ) -> None:
        """Show an RGB picture, and save it where the backends do."""
        if self.show:
            runner.visualizer.show(picture, name, self.wait_time)
        runner.visualizer.add_image(name, picture, step)


def spread_windows(
    shape: tuple[int, int], size: tuple[int, int], count: int
) -> list[Window]:
    """Spread windows evenly over a scene.

    Args:
        shape (tuple[int]): ``(H, W)`` of the scene in pixels.
        size (tuple[int]): ``(h, w)`` of a window; cut to the scene.
        count (int): Number of windows.

    Returns:
        list[tuple[int]]: Windows ``(y, x, h, w)`` inside the scene, row by
        row; a scene too small for different ones gives fewer.
    """
    if not count:
        return []
    height, width = shape
    h, w = min(size[0], height), min(size[1], width)
    grid_rows = round(math.sqrt(count * height / width))
    grid_rows = min(max(grid_rows, 1), count)
    windows = []
    for row in range(grid_rows):
        # Rows share the windows as equally as whole numbers can.
        in_row = (row + 1) * count // grid_rows - row * count // grid_rows
        y = _centred((row + 0.5) / grid_rows, h, height)
        for column in range(in_row):
            x = _centred((column + 0.5) / in_row, w, width)
            windows.append((y, x, h, w))
    return list(dict.fromkeys(windows))


def _centred(position: float, length: int, full: int) -> int:
    """Start a stretch of pixels around a position (0-1), inside the scene."""
    return min(max(round(position * full - length / 2), 0), full - length)


def _as_raster(source: Raster | Tensor) -> Raster:
    """Make an image (C, H, W) or label map (1, H, W) readable by window.

    Tensors are read as arrays: tensors are resized in float32, which for a
    whole scene would be four times its size.
    """
    if isinstance(source, Raster):
        return source
    if not isinstance(source, Tensor):
        raise TypeError(
            f'UHRVisualizationHook: cannot draw {type(source).__name__}; '
            'expected inputs that are rasters or tensors (C, H, W). Set '
            'draw=False with test-time augmentation'
        )
    return ArrayRaster(source.permute(1, 2, 0).cpu().numpy())


def _panels(
    image: Raster,
    label_maps: Sequence[Raster],
    window: Window,
    size: tuple[int, int],
    palette: Any,
) -> np.ndarray:
    """Put the image and its coloured label maps side by side.

    Args:
        image (Raster): The image; may have been resized for the model.
        label_maps (Sequence[Raster]): Class ids of one shape.
        window (tuple[int]): What to show, ``(y, x, h, w)`` in pixels of the
            label maps.
        size (tuple[int]): ``(h, w)`` of a panel.
        palette (Sequence[Sequence[int]] | None): RGB per class.

    Returns:
        np.ndarray: RGB ``uint8`` (h, n * w and gaps, 3).
    """
    panels = [as_rgb(image.read(_scale(window, label_maps[-1], image), size))]
    for label_map in label_maps:
        ids = label_map.read(window, size, 'nearest')[..., 0]
        if ids.dtype.kind == 'f':
            # Stock one-channel heads predict the numbers 0.0 and 1.0.
            ids = ids.astype(np.int64)
        panels += [np.full((size[0], _GAP, 3), 255, np.uint8)]
        panels += [colour_labels(ids, palette)]
    return np.hstack(panels)


def _scale(window: Window, source: Raster, target: Raster) -> Window:
    """Find the window of a raster that covers the same part of the scene."""
    if source.shape == target.shape:
        return window
    scales = [t / s for s, t in zip(source.shape, target.shape, strict=True)]
    y, x, h, w = (v * s for v, s in zip(window, scales * 2, strict=True))
    return round(y), round(x), max(round(h), 1), max(round(w), 1)


def _legend(classes: Sequence[str], palette: Any, width: int) -> np.ndarray:
    """Write the names of the classes beside their colours, on white.

    Args:
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[Sequence[int]] | None): RGB per class.
        width (int): Of the picture, pixels.

    Returns:
        np.ndarray: RGB ``uint8`` (h, width, 3).
    """
    colours = colour_labels(np.arange(len(classes))[None], palette)[0]
    places, x, y = [], _GAP, 0
    for name in classes:
        length = _LINE + cv2.getTextSize(name, _FONT, 0.45, 1)[0][0] + _GAP
        if x > _GAP and x + length > width:
            x, y = _GAP, y + _LINE
        places.append((x, y))
        x += length
    height = y + _LINE if places else 0
    legend = np.full((height, width, 3), 255, np.uint8)
    for (x, y), name, colour in zip(places, classes, colours, strict=True):
        legend[y + 4 : y + 16, x : x + 12] = colour
        cv2.putText(
            legend,
            name,
            (x + 16, y + 14),
            _FONT,
            0.45,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    return legend
