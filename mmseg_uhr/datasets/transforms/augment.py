"""Augmentation of all views of a window alike."""

import random

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from ...registry import TRANSFORMS

Box = tuple[float, float, float, float]


@TRANSFORMS.register_module()
class RandomD4(BaseTransform):
    """Turn by right angles and mirror: one of the eight symmetries.

    Image, labels and wider views are treated alike, and the boxes of the
    window in its views follow. If a view is not square, it is only mirrored
    or turned by 180 degrees, so that batches keep one shape.

    Args:
        prob (float): Chance of drawing a symmetry at all. Defaults to 1.
        turn (bool): False only mirrors left to right, for scenes that have an
            up and a down. Defaults to True.
    """

    def __init__(self, prob: float = 1.0, turn: bool = True) -> None:
        self.prob = prob
        self.turn = turn

    def transform(self, results: dict) -> dict:
        """Turn and mirror ``img``, ``seg_fields`` and ``views``."""
        if np.random.rand() >= self.prob:
            return results
        views = results.get('views', {})
        images = [results['img'], *views.values()]
        square = all(image.shape[0] == image.shape[1] for image in images)
        turns = 0
        if self.turn:
            turns = (
                np.random.randint(4) if square else 2 * np.random.randint(2)
            )
        mirror = bool(np.random.randint(2))
        for name in ['img', *results.get('seg_fields', [])]:
            results[name] = _apply(results[name], turns, mirror)
        results['img_shape'] = results['img'].shape[:2]
        results['views'] = {
            name: _apply(view, turns, mirror) for name, view in views.items()
        }
        results['view_boxes'] = {
            name: _apply_to_box(box, turns, mirror)
            for name, box in results.get('view_boxes', {}).items()
        }
        return results


def _apply(pixels: np.ndarray, turns: int, mirror: bool) -> np.ndarray:
    """Turn counter-clockwise, then mirror left to right."""
    pixels = np.rot90(pixels, turns)
    return np.ascontiguousarray(pixels[:, ::-1] if mirror else pixels)


def _apply_to_box(box: Box, turns: int, mirror: bool) -> Box:
    """Do to a relative box what :func:`_apply` does to the pixels."""
    y, x, h, w = box
    for _ in range(turns):
        y, x, h, w = 1 - x - w, y, w, h
    return (y, 1 - x - w, h, w) if mirror else (y, x, h, w)


@TRANSFORMS.register_module()
class ForEachView(BaseTransform):
    """Apply transforms to each view with the same random choices.

    For photometric transforms of stock mmseg, which know the key ``img``
    only; geometric ones belong to :class:`RandomD4`.

    Args:
        transforms (list[dict]): Their configs, e.g.
            ``[dict(type='PhotoMetricDistortion')]``.
    """

    def __init__(self, transforms: list[dict]) -> None:
        self.transforms = Compose(transforms)

    def transform(self, results: dict) -> dict:
        """Transform ``img``, then replay the choices on each view."""
        state = random.getstate(), np.random.get_state()
        results = self.transforms(results)
        end = random.getstate(), np.random.get_state()
        for name, view in results.get('views', {}).items():
            random.setstate(state[0])
            np.random.set_state(state[1])
            results['views'][name] = self.transforms(dict(img=view))['img']
        random.setstate(end[0])
        np.random.set_state(end[1])
        return results
