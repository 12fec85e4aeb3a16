"""Test scenes with labels and predictions, and what to look at in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmseg.registry import DATASETS
from scipy import ndimage

from mmseg_uhr.rasters import open_raster

from .runs import Run

Box = tuple[int, int, int, int]


@dataclass
class Scene:
    """A test scene.

    Attributes:
        name (str): Stem of its file.
        image (np.ndarray): RGB ``uint8`` (H, W, 3).
        labels (np.ndarray): Class ids (H, W).
        maps (dict[str, np.ndarray]): Predicted class ids by system.
        classes (Sequence[str]): Names.
        palette (Sequence): RGB of the classes.
        ignored (int): Label that does not count.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    maps: dict[str, np.ndarray]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    ignored: int


def describe_data(cfg: Config) -> tuple[list[dict], Sequence[str], list]:
    """Return the test scenes' entries, the classes and their palette."""
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    entries = [dataset.get_data_info(i) for i in range(len(dataset))]
    return entries, dataset.metainfo['classes'], dataset.metainfo['palette']


def scene_size(entry: dict) -> tuple[int, int]:
    """Return ``(H, W)`` of a scene in pixels."""
    return open_raster(entry['img_path']).shape


def load_scene(
    entry: dict,
    runs: Sequence[Run],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    ignored: int = 255,
) -> Scene:
    """Read a scene with the predictions of runs.

    Args:
        entry (dict): Of the data set.
        runs (Sequence[Run]): Tested; the first of each system counts.
        classes (Sequence[str]): Names.
        palette (Sequence): RGB of the classes.
        ignored (int): Label that does not count.

    Returns:
        Scene: Of systems whose maps are there.
    """
    stem = Path(entry['img_path']).stem
    maps: dict[str, np.ndarray] = {}
    for run in runs:
        path = run.maps() / f'{stem}.png'
        if run.name not in maps and path.exists():
            maps[run.name] = open_raster(path).read()[..., 0]
    return Scene(
        stem,
        np.ascontiguousarray(open_raster(entry['img_path']).read()[..., :3]),
        open_raster(entry['seg_map_path']).read()[..., 0],
        maps,
        classes,
        palette,
        ignored,
    )


def boundary_mask(labels: np.ndarray) -> np.ndarray:
    """Return where a pixel differs from its right or lower neighbour."""
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    found[:-1] |= labels[1:] != labels[:-1]
    return found


def small_objects(labels: np.ndarray, ignored: int, limit: int) -> np.ndarray:
    """Return the pixels of objects with fewer pixels than a limit."""
    found = np.zeros(labels.shape, bool)
    for value in np.unique(labels):
        if value == ignored:
            continue
        parts, _ = ndimage.label(labels == value, np.ones((3, 3)))
        sizes = np.bincount(parts.ravel())
        sizes[0] = limit
        found |= sizes[parts] < limit
    return found


def densest(mask: np.ndarray, size: tuple[int, int], number: int) -> list[Box]:
    """Choose the windows of a grid with the most pixels of a mask.

    Args:
        mask (np.ndarray): Boolean (H, W).
        size (tuple[int, int]): ``(h, w)`` of windows, pixels.
        number (int): Of windows.

    Returns:
        list[tuple]: ``(y, x, h, w)``, apart from each other by half a window
        at least, best first.
    """
    h, w = (min(n, m) for n, m in zip(size, mask.shape, strict=True))
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    total[1:, 1:] = mask.cumsum(0).cumsum(1)
    ys = np.arange(0, mask.shape[0] - h + 1, max(h // 4, 1))
    xs = np.arange(0, mask.shape[1] - w + 1, max(w // 4, 1))
    y, x = np.meshgrid(ys, xs, indexing='ij')
    counts = (
        total[y + h, x + w] - total[y, x + w] - total[y + h, x] + total[y, x]
    )
    chosen: list[Box] = []
    for place in np.argsort(-counts, axis=None, kind='stable'):
        found = int(y.flat[place]), int(x.flat[place])
        far = all(
            abs(found[0] - b[0]) >= 1.5 * h or abs(found[1] - b[1]) >= 1.5 * w
            for b in chosen
        )
        if far:
            chosen.append((*found, h, w))
        if len(chosen) == number:
            break
    return chosen


def on_seam(mask: np.ndarray, row: int, size: tuple[int, int]) -> Box:
    """Choose the window with the most pixels of a mask that a row halves.

    Args:
        mask (np.ndarray): Boolean (H, W).
        row (int): Of the seam, pixels.
        size (tuple[int, int]): ``(h, w)`` of the window, pixels.

    Returns:
        tuple: ``(y, x, h, w)``.
    """
    h, w = (min(n, m) for n, m in zip(size, mask.shape, strict=True))
    top = min(max(row - h // 2, 0), mask.shape[0] - h)
    (found,) = densest(mask[top : top + h], (h, w), 1)
    return top, found[1], h, w
