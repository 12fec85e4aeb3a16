"""Windows across scenes, decided before anything is read."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ...rasters import open_raster
from ...registry import DATA_SAMPLERS
from ...tiling import Window
from ..transforms import RandomWindow
from ..transforms.class_index import class_pixels
from ..transforms.windows import WindowDraw

# Windows that are remembered for replay, per rank.
_MEMORY = 512


@DATA_SAMPLERS.register_module()
class WindowSampler(Sampler):
    """Draw windows of all scenes: uniform, balanced by class, or hard again.

    A balanced window has a pixel of a class that is drawn first; the pixel
    is any pixel of that class in the data set, with equal chances. A uniform
    window lies in a scene that is drawn in proportion to its area. How many
    pixels of each class the scenes have is counted once and stored, see
    :func:`~mmseg_uhr.datasets.transforms.class_index.class_index`.

    The k-th window depends on the seed and on k alone. Rank r of W takes the
    windows r, r + W, r + 2 W, ..., so a run with other numbers of processes,
    workers or windows a batch sees the same windows in the same order, dealt
    out otherwise. (Augmentation after ``RandomWindow`` follows the seeds of
    the workers, as in stock.) Replay breaks that: it depends on losses.

    The pipeline of the data set must hold ``RandomWindow``; this sampler
    decides instead of its ``class_balanced``.

    Args:
        dataset (BaseDataset): Of scenes; not wrapped in another one.
        class_balanced (float): Share of balanced windows. Defaults to 0.5.
        power (float): A class is drawn with a chance proportional to
            ``frequency ** -power``: 0 gives all classes equal chances, 1
            favours a class in inverse proportion to its pixels, -1 follows
            them. Defaults to 0.
        classes (Sequence[str], optional): Names of the classes that balanced
            windows are drawn for. Defaults to all.
        windows_per_epoch (int | str, optional): Windows of an epoch, all
            ranks together, for ``EpochBasedTrainLoop``; ``'area'`` is the
            number whose area is that of all scenes. Defaults to no end, for
            ``IterBasedTrainLoop``, as stock's ``InfiniteSampler``.
        replay (float): Share of windows that are drawn around one whose loss
            was high; needs ``HardWindowHook``. Defaults to 0.
        seed (int, optional): Of all choices, alike on all ranks. Defaults to
            that of the runner.

    Raises:
        TypeError: If the data set is wrapped or no ``BaseDataset``.
        ValueError: If an argument is out of range, the pipeline has no
            ``RandomWindow``, or classes are to be balanced without labels.
        RasterError: If a scene cannot be opened or its labels not be read.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        class_balanced: float = 0.5,
        power: float = 0.0,
        classes: Sequence[str] | None = None,
        windows_per_epoch: int | str | None = None,
        replay: float = 0.0,
        seed: int | None = None,
    ) -> None:
        for name, share in dict(
            class_balanced=class_balanced, replay=replay
        ).items():
            if not 0 <= share <= 1:
                raise ValueError(
                    f'WindowSampler: {name}={share}: expected a share from 0 '
                    'to 1'
                )
        self.rank, self.world_size = get_dist_info()
        self.class_balanced, self.replay = class_balanced, replay
        self.seed = sync_random_seed() if seed is None else seed
        crop_size = _crop_size(dataset)
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        shapes = [open_raster(info['img_path']).shape for info in infos]
        areas = np.array([height * width for height, width in shapes])
        self._areas = np.cumsum(areas)
        if class_balanced > 0:
            _check_labels(dataset, infos)
            self._balance(dataset, class_pixels(infos), power, classes)
        by_area = max(round(areas.sum() / math.prod(crop_size)), 1)
        self.windows_per_epoch = _parse_epoch(windows_per_epoch, by_area)
        self._length = math.ceil(
            (self.windows_per_epoch or by_area) / self.world_size
        )
        self._skipped = self._start = 0
        self._memory: list[tuple[float, int, Window]] = []

    def __iter__(self) -> Iterator[WindowDraw]:
        """Iterate this rank's windows."""
        number = self._start
        while self.windows_per_epoch is None or (
            number < self._start + self._length
        ):
            yield self.draw(self.rank + self.world_size * number)
            number += 1

    def __len__(self) -> int:
        """Windows of this rank in an epoch; by area if there is no end."""
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Go to the first window of an epoch; endless ones have none."""
        if self.windows_per_epoch is not None:
            self._start = self._skipped + epoch * self._length

    def skip(self, num_samples: int) -> None:
        """Go to a window of this rank, to resume there.

        Args:
            num_samples (int): Windows of this rank that have been seen.
        """
        self._skipped = self._start = num_samples

    def draw(self, number: int) -> WindowDraw:
        """Decide on one window.

        Args:
            number (int): Of the window, counted over all ranks from 0.

        Returns:
            WindowDraw: Index of the scene, and what places the window.
        """
        rng = np.random.default_rng((self.seed, number, 1))
        seed = (self.seed, number, 2)
        replayed, balanced = rng.random(2)
        if replayed < self.replay and self._memory:
            # Taken out: if it is still hard, it comes back.
            chosen = int(rng.integers(len(self._memory)))
            _, scene, region = self._memory.pop(chosen)
            return WindowDraw(scene, seed, region=region)
        if balanced >= self.class_balanced:
            return WindowDraw(_pick(self._areas, rng), seed)
        class_id = _pick(self._chances, rng)
        return WindowDraw(
            _pick(self._pixels[:, class_id], rng), seed, class_id
        )

    def remember(self, scene: int, window: Window, loss: float) -> None:
        """Offer a window for replay; the hardest 512 are kept.

        Args:
            scene (int): Index of its scene.
            window (Window): Where it lay.
            loss (float): Mean loss of its pixels.
        """
        self._memory.append((loss, int(scene), window))
        if len(self._memory) > _MEMORY:
            self._memory.remove(min(self._memory))

    def _balance(
        self,
        dataset: BaseDataset,
        pixels: np.ndarray,
        power: float,
        classes: Sequence[str] | None,
    ) -> None:
        """Set the chances of classes, and of scenes given a class."""
        totals = pixels.sum(axis=0)
        wanted = totals > 0
        if classes is not None:
            wanted &= _are_named(dataset, classes, len(totals))
        if not wanted.any():
            raise ValueError(
                'WindowSampler: none of the '
                f'{len(pixels)} label maps has a pixel of '
                f'{"a class" if classes is None else list(classes)}; correct '
                'the labels or classes, or set class_balanced=0'
            )
        chances = np.zeros(len(totals))
        chances[wanted] = (totals[wanted] / totals.sum()) ** -power
        self._chances = np.cumsum(chances / chances.sum())
        self._pixels = np.cumsum(pixels, axis=0)


def _pick(sums: np.ndarray, rng: np.random.Generator) -> int:
    """Draw an index with chances that add up to ``sums``."""
    drawn = rng.random() * sums[-1]
    return int(np.searchsorted(sums, drawn, side='right'))


def _crop_size(dataset: BaseDataset) -> tuple[int, int]:
    """Return the size of the windows, pixels."""
    if not isinstance(dataset, BaseDataset):
        raise TypeError(
            f'WindowSampler: cannot draw from {type(dataset).__name__}, which '
            'hides what it wraps; give the data loader the data set itself, '
            'without ConcatDataset, RepeatDataset or num_batch_per_epoch'
        )
    for transform in dataset.pipeline.transforms:
        if isinstance(transform, RandomWindow):
            return transform.crop_size
    raise ValueError(
        'WindowSampler: the pipeline of the data set has no RandomWindow, '
        'which reads the windows that are drawn; put it after LoadRaster'
    )


def _check_labels(dataset: BaseDataset, infos: Sequence[dict]) -> None:
    """Refuse to balance classes of scenes without label maps."""
    bare = [info for info in infos if info.get('seg_map_path') is None]
    if bare:
        raise ValueError(
            f'WindowSampler: {len(bare)} of {len(infos)} scenes of '
            f'{type(dataset).__name__} have no label map, e.g. '
            f'{bare[0]["img_path"]}; set seg_map_path in its data_prefix, or '
            'class_balanced=0 of the sampler'
        )


def _are_named(
    dataset: BaseDataset, names: Sequence[str], count: int
) -> np.ndarray:
    """Return which ids have one of the names, bool (count,)."""
    known = list(dataset.metainfo.get('classes') or ())
    strange = [name for name in names if name not in known]
    if strange:
        raise ValueError(
            f'WindowSampler: classes={list(names)}: {strange} are no classes '
            f'of {type(dataset).__name__}; known: {known}'
        )
    return np.isin(np.arange(count), [known.index(name) for name in names])


def _parse_epoch(windows: int | str | None, by_area: int) -> int | None:
    """Return the windows of an epoch; None if it has no end."""
    if windows is None:
        return None
    if windows == 'area':
        return by_area
    if isinstance(windows, int) and windows > 0:
        return windows
    raise ValueError(
        f'WindowSampler: windows_per_epoch={windows!r}: expected a positive '
        "number, 'area', or None"
    )
