"""Windows of a raster in, finished rows of its label map out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from torch import Tensor

from ..rasters import Raster
from ..tiling import (
    BLENDS,
    SYMMETRIES,
    BandAccumulator,
    TilePlan,
    View,
    Window,
)
from .batch import WindowBatch
from .labels import decide
from .out_of_memory import CarefulPredictor

Item = TypeVar('Item')
_END = object()


@dataclass(frozen=True)
class StreamSettings:
    """How a raster is cut into windows and put together again.

    Args:
        crop_size (tuple[int]): ``(h, w)`` of a window in pixels.
        stride (tuple[int]): ``(h, w)`` from window to window in pixels.
        batch_size (int): Windows per forward pass. Defaults to 1.
        blend (str): ``'uniform'`` (as stock slide mode), ``'gaussian'``,
            ``'linear'``, ``'hann'`` or ``'centre'``, see
            :func:`~mmseg_uhr.tiling.blend_weights`.
        placement (str): ``'flush'`` (as stock slide mode) or ``'even'``, see
            :class:`~mmseg_uhr.tiling.TilePlan`.
        tta (str): Test-time augmentation, the mean of several predictions of
            each window: ``'none'``, ``'flip'`` (two) or ``'d4'`` (all eight
            mirrored and turned ones).

    Raises:
        ValueError: If a value makes no sense.
    """

    crop_size: tuple[int, int]
    stride: tuple[int, int]
    batch_size: int = 1
    blend: str = 'uniform'
    placement: str = 'flush'
    tta: str = 'none'

    def __post_init__(self) -> None:
        if self.blend not in BLENDS:
            raise ValueError(
                f'test_cfg.blend={self.blend!r}: expected one of {BLENDS}'
            )
        if self.tta not in SYMMETRIES:
            raise ValueError(
                f'test_cfg.tta={self.tta!r}: expected one of '
                f'{tuple(SYMMETRIES)}'
            )
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(
                f'test_cfg.batch_size={self.batch_size!r}: expected a number '
                'of windows, at least 1'
            )
        # A plan of any raster checks what is left.
        self.plan((1, 1))

    def plan(self, shape: tuple[int, int]) -> TilePlan:
        """Return the windows of a raster of ``shape``, ``(H, W)``."""
        return TilePlan(shape, self.crop_size, self.stride, self.placement)

    @classmethod
    def from_test_cfg(cls, test_cfg: Mapping[str, Any]) -> 'StreamSettings':
        """Read the settings from a segmentor's ``test_cfg``.

        Args:
            test_cfg (Mapping): With ``mode='stream'``.

        Returns:
            StreamSettings: Checked.

        Raises:
            ValueError: If a field is missing or makes no sense.
        """
        missing = [k for k in ('crop_size', 'stride') if k not in test_cfg]
        if missing:
            raise ValueError(
                f"test_cfg has mode='stream' but lacks {' and '.join(missing)}"
                '; give both as (height, width) in pixels, e.g. '
                'crop_size=(1024, 1024), stride=(768, 768)'
            )
        given = {
            name: test_cfg[name]
            for name in cls.__dataclass_fields__
            if name in test_cfg
        }
        return cls(**given)


def read_batches(
    raster: Raster,
    plan: TilePlan,
    views: Mapping[str, View],
    batch_size: int,
) -> Iterator[WindowBatch]:
    """Read the views of all windows of a plan, a batch at a time.

    A view of the whole scene is read once.
    """
    scene = Window(0, 0, *raster.shape)
    scene_views = {
        name: _read_view(raster, view, scene)
        for name, view in views.items()
        if view.whole_scene
    }
    windows = iter(plan)
    while batch := list(islice(windows, batch_size)):
        inputs = [
            {
                name: scene_views[name]
                if view.whole_scene
                else _read_view(raster, view, window)
                for name, view in views.items()
            }
            for window in batch
        ]
        boxes = [
            {
                name: window.box_in(view.region_of(window, raster.shape))
                for name, view in views.items()
            }
            for window in batch
        ]
        yield WindowBatch(batch, inputs, boxes)


def _read_view(raster: Raster, view: View, window: Window) -> Tensor:
    """Read one view of a window, shape (bands, h, w)."""
    region = view.region_of(window, raster.shape)
    return raster.read_tensor(
        region, view.size_of(region), view.resampling, view.fill
    )


def prefetch(items: Iterable[Item]) -> Iterator[Item]:
    """Make the next item in a thread while the current one is in use.

    An exception in the thread is raised here, in place of its item.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1) as reader:
        pending = reader.submit(next, iterator, _END)
        while (item := pending.result()) is not _END:
            pending = reader.submit(next, iterator, _END)
            yield item


def stream_labels(
    raster: Raster,
    settings: StreamSettings,
    views: Mapping[str, View],
    predict: Callable[[WindowBatch], Tensor],
    threshold: float | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Segment a raster window by window; memory is one band of rows.

    Args:
        raster (Raster): The scene.
        settings (StreamSettings): Windows and blending.
        views (Mapping[str, View]): What the network sees of a window.
        predict (Callable): Logits (n, C, h, w) of n windows, (h, w) being
            the windows' size. Called again with fewer windows where memory
            does not suffice.
        threshold (float, optional): For binary models with one channel.

    Yields:
        tuple[int, Tensor]: First row, and finished rows (h, W) of class ids
        on the CPU, from the top to the bottom of the scene.
    """
    plan = settings.plan(raster.shape)
    band = BandAccumulator(plan, settings.blend)
    batches = read_batches(raster, plan, views, settings.batch_size)

    def finished(until: int) -> Iterator[tuple[int, Tensor]]:
        for y, sums, norm in band.finish(until):
            yield y, decide(sums, norm, threshold).cpu()

    careful = CarefulPredictor(predict)
    for batch in prefetch(batches):
        for window, logits in careful(batch):
            if window.y > band.top:
                yield from finished(window.y)
            band.add(logits, window)
    yield from finished(plan.shape[0])
