"""Choosing where to look in a scene."""

import numpy as np
from mmcv.transforms import BaseTransform

from ...registry import TRANSFORMS
from ...tiling import Window
from .class_index import class_index, pixel_of_class


class WindowDraw(int):
    """The index of a scene, with what decides on a window of it.

    A sampler gives it to the data set, which takes it for the index and hands
    it on to the pipeline as ``sample_idx``; :class:`RandomWindow` obeys. So
    windows are decided where the sampler is, and read by the workers.

    Args:
        scene (int): Index of the scene in the data set.
        seed (tuple[int]): Of the random numbers that place the window.
        class_id (int, optional): Class of a pixel that the window shall have.
        region (Window, optional): The window shall have a pixel of it.
    """

    def __new__(
        cls,
        scene: int,
        seed: tuple[int, ...],
        class_id: int | None = None,
        region: Window | None = None,
    ) -> 'WindowDraw':
        """Make the index; an ``int`` gets its value here."""
        draw = super().__new__(cls, scene)
        draw.seed, draw.class_id, draw.region = seed, class_id, region
        return draw

    def __reduce__(self) -> tuple:
        # On the way to the workers.
        return type(self), (int(self), self.seed, self.class_id, self.region)


@TRANSFORMS.register_module()
class RandomWindow(BaseTransform):
    """Choose a random window of a scene; nothing is read yet.

    A scene smaller than the crop gives a window of the scene's size, which a
    data preprocessor with ``size=crop_size`` pads, as in stock mmseg.

    Where classes lie is looked up in the scene's class index, see
    :func:`~mmseg_uhr.datasets.transforms.class_index.class_index`. A
    :class:`~mmseg_uhr.datasets.samplers.WindowSampler` balances classes
    across scenes; it then decides instead of ``class_balanced``.

    Required keys: ``raster``; ``label_raster`` if classes are balanced.
    Added keys: ``window``.

    Args:
        crop_size (tuple[int]): ``(h, w)`` in pixels.
        class_balanced (float): Share of windows that are put around a pixel
            of a class drawn with equal chances from those in the scene. The
            others are uniform. Defaults to 0.

    Raises:
        ValueError: If an argument is out of range, or classes are to be
            balanced without labels.
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
        draw = results.get('sample_idx')
        if not isinstance(draw, WindowDraw):
            draw = self._draw(results)
        rng = np.random.default_rng(draw.seed)
        if draw.class_id is not None:
            self._check_labels(results)
            row, column = pixel_of_class(results, draw.class_id, rng)
        elif draw.region is not None:
            row = draw.region.y + rng.integers(draw.region.h)
            column = draw.region.x + rng.integers(draw.region.w)
        else:
            results['window'] = Window(
                int(rng.integers(height - h + 1)),
                int(rng.integers(width - w + 1)),
                h,
                w,
            )
            return results
        # Anywhere in the window, so that the class is not always central.
        results['window'] = Window(
            int(np.clip(row - rng.integers(h), 0, height - h)),
            int(np.clip(column - rng.integers(w), 0, width - w)),
            h,
            w,
        )
        return results

    def _draw(self, results: dict) -> WindowDraw:
        """Decide here, without a sampler that does."""
        # NumPy's global state is what MMEngine seeds in the workers.
        seed = int(np.random.randint(2**31))
        class_id = None
        if np.random.rand() < self.class_balanced:
            self._check_labels(results)
            classes = np.flatnonzero(class_index(results).pixels)
            if len(classes):
                class_id = int(np.random.choice(classes))
        return WindowDraw(0, (seed,), class_id)

    def _check_labels(self, results: dict) -> None:
        """Refuse to look for classes in a scene without labels."""
        if 'label_raster' not in results:
            raise ValueError(
                f'{results["raster"].name}: RandomWindow is to draw windows '
                'around classes, but the scene has no label map; put '
                'LoadLabelRaster before RandomWindow and set seg_map_path in '
                'data_prefix of the data set, or set class_balanced=0'
            )
