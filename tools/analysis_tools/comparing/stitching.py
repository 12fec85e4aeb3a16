"""How much a map depends on where windows lie."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mmseg_uhr.apis import UHRInferencer
from mmseg_uhr.rasters import open_raster
from mmseg_uhr.tiling import TilePlan, Window

from .runs import Run, digest
from .training import read_results

# A seam is so many pixels to either side of an edge of a window.
_NEAR = 8
_WAYS: dict[str, dict[str, Any]] = dict(
    tiles=dict(overlap=0.0, blend='uniform'),
    overlapped=dict(overlap=1 / 3, blend='gaussian'),
)


def measure_stitching(
    run: Run, path: Path, device: str, anew: bool = True
) -> dict[str, float]:
    """Predict a scene twice, with windows half a window apart.

    Where both maps agree, it does not matter where windows lie. Done without
    overlap, and with a third of overlap and Gaussian blending.

    Args:
        run (Run): Trained. What was found is kept beside its scores.
        path (Path): The scene, any raster.
        device (str): Such as ``'cpu'``.
        anew (bool): Whether to measure what is not known yet. Defaults to
            True.

    Returns:
        dict: Percent of the pixels near edges of the first map's windows
        that get another class: ``tiles`` and ``overlapped``. Nothing for a
        network without windows, or if it is not known.
    """
    window = run.window
    if window is None:
        return {}
    size = open_raster(path).shape
    key = dict(path=str(path), size=size, near=_NEAR, ways=_WAYS)
    kept = run.test_folder / f'stitching-{digest(key)}.json'
    if kept.exists():
        return json.loads(kept.read_text())
    trained = read_results(run)
    if not anew or trained is None:
        return {}
    print(f'stitching {run.name}, {window}', file=sys.stderr, flush=True)
    checkpoint = run.folder / trained['trained']['checkpoint']
    shift = tuple(side // 2 for side in window)
    # Blue comes first in arrays, as OpenCV has it.
    pixels = open_raster(path).read(Window(0, 0, *size))[:, :, ::-1]
    near = _near_seams(size, window, shift)
    found = {}
    for name, way in _WAYS.items():
        cfg = copy.deepcopy(run.cfg)
        stride = tuple(round(side * (1 - way['overlap'])) for side in window)
        cfg.model.test_cfg.update(stride=stride, blend=way['blend'])
        cfg.model.test_cfg.pop('placement', None)
        segment = UHRInferencer(cfg, checkpoint, device)
        first, second = (
            segment(np.ascontiguousarray(part), progress=False).labels
            for part in (pixels, pixels[shift[0] :, shift[1] :])
        )
        differ = np.asarray(first)[shift[0] :, shift[1] :] != second
        found[name] = 100 * float(differ[near].mean())
    kept.write_text(json.dumps(found))
    return found


def _near_seams(
    size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> np.ndarray:
    """Mark pixels near seams in the part that both maps cover."""
    near = [
        _distance(np.arange(first, length), _edges(length, side)) < _NEAR
        for length, side, first in zip(size, window, shift, strict=True)
    ]
    return near[0][:, None] | near[1]


def _edges(length: int, side: int) -> np.ndarray:
    """Return where windows end within one axis."""
    plan = TilePlan((length, 1), (side, 1), (side, 1))
    starts = {window.y for window in plan}
    ends = {window.y + window.h for window in plan}
    return np.array(sorted((starts | ends) - {0, length}))


def _distance(at: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the distance to the nearest edge, in pixels."""
    if not len(edges):
        return np.full(at.shape, np.inf)
    return np.abs(at[:, None] + 0.5 - edges[None]).min(1)
