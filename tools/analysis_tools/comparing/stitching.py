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
# Half of a window apart is as far from seams as it gets; this share counts.
_FAR = 0.25
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
        dict: Percent of the pixels that get another class: ``tiles_seams``
        and ``tiles_inside``, ``overlapped_seams`` and ``overlapped_inside``;
        of pixels near edges of the first map's windows, and far from the
        edges of both. Nothing for a network without windows, or if it is not
        known.
    """
    window = run.window
    if window is None:
        return {}
    size = open_raster(path).shape
    key = dict(path=str(path), size=size, near=_NEAR, far=_FAR, ways=_WAYS)
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
    near, far = _zones(size, window, shift)
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
        found[f'{name}_seams'] = 100 * float(differ[near].mean())
        found[f'{name}_inside'] = 100 * float(differ[far].mean())
    kept.write_text(json.dumps(found))
    return found


def _zones(
    size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of the part that both maps cover: near and far pixels."""
    rest = tuple(n - s for n, s in zip(size, shift, strict=True))
    near = np.zeros(rest, bool)
    far = np.ones(rest, bool)
    for axis in range(2):
        side = window[axis]
        seams = _edges(size[axis], side) - shift[axis]
        others = _edges(rest[axis], side)
        at = np.arange(rest[axis])
        here, there = (_distance(at, edges) for edges in (seams, others))
        line = [None, None]
        line[axis] = slice(None)
        near |= (here < _NEAR)[tuple(line)]
        inside = np.minimum(here, there) >= _FAR * side
        far &= inside[tuple(line)]
    return near, far


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
