"""Choosing where to look in a scene."""

import os

import numpy as np
from mmcv.transforms import BaseTransform

from ...rasters.cache import ArrayCache
from ...registry import TRANSFORMS
from ...tiling import Window
from .labels import read_labels

# Where the classes of a scene lie, from a label map of at most this many
# pixels a side. Kept per process for the scenes used last.
_INDEX_SIDE = 1024
_CLASS_INDEX = ArrayCache(64 * 2**20)


@TRANSFORMS.register_module()
class RandomWindow(BaseTransform):
    """Choose a random window of a scene; nothing is read yet.

    A scene smaller than the crop gives a window of the scene's size, which a
    data preprocessor with ``size=crop_size`` pads, as in stock mmseg.

    Required keys: ``raster``; ``label_raster`` if classes are balanced.
    Added keys: ``window``.

    Args:
        crop_size (tuple[int]): ``(h, w)`` in pixels.
        class_balanced (float): Share of windows that are put around a pixel
            of a class drawn with equal chances from those in the scene. The
            others are uniform. Defaults to 0.
    """

    def __init__(
        self, crop_size: tuple[int, int], class_balanced: float = 0.0
    ) -> None:
        if len(crop_size) != 2 or min(crop_size) < 1:
            raise ValueError(
                f'RandomWindow: crop_size={crop_size}: expected (height, '
                'width) in pixels'
            )
        if not 0 <= class_balanced <= 1:
            raise ValueError(
                f'RandomWindow: class_balanced={class_balanced}: expected a '
                'share from 0 to 1'
            )
        self.crop_size = tuple(crop_size)
        self.class_balanced = class_balanced

    def transform(self, results: dict) -> dict:
        """Add ``window`` to the results."""
        height, width = results['raster'].shape
        h, w = min(self.crop_size[0], height), min(self.crop_size[1], width)
        if np.random.rand() < self.class_balanced:
            row, column = self._pixel_of_some_class(results)
            # Anywhere in the window, so that the class is not always central.
            y = row - np.random.randint(h)
            x = column - np.random.randint(w)
        else:
            y = np.random.randint(height - h + 1)
            x = np.random.randint(width - w + 1)
        results['window'] = Window(
            int(np.clip(y, 0, height - h)), int(np.clip(x, 0, width - w)), h, w
        )
        return results

    @staticmethod
    def _pixel_of_some_class(results: dict) -> tuple[int, int]:
        """Draw a class of the scene, then one of its pixels."""
        raster = results['label_raster']
        height, width = raster.shape
        shrink = max(1.0, max(height, width) / _INDEX_SIDE)
        size = max(int(height / shrink), 1), max(int(width / shrink), 1)
        stat = os.stat(raster.name)
        # One file may serve data sets that map its ids differently.
        mapping = tuple(
            str(results.get(name))
            for name in ('label_map', 'reduce_zero_label', 'ignore_index')
        )
        key = (raster.name, stat.st_mtime_ns, stat.st_size, *mapping)
        index = _CLASS_INDEX.get(key, lambda: read_labels(results, size=size))
        classes = np.flatnonzero(np.bincount(index.reshape(-1)))
        classes = classes[classes != results.get('ignore_index', 255)]
        if len(classes) == 0:
            return np.random.randint(height), np.random.randint(width)
        pixels = np.flatnonzero(index == np.random.choice(classes))
        row, column = divmod(int(np.random.choice(pixels)), size[1])
        return (
            int((row + 0.5) * height / size[0]),
            int((column + 0.5) * width / size[1]),
        )
