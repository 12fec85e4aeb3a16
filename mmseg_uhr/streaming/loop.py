"""Windows of a raster in, finished rows of its label map out."""

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import numpy as np

from .. import compat
from ..rasters import Raster, RowBuffer
from ..tiling import BandAccumulator, TilePlan, View, Window
from ..tiling.arrays import ArrayLike
from ..tiling.views import LOCAL
from .batch import WindowBatch
from .mask import MaskBand
from .out_of_memory import CarefulPredictor, WindowTooLargeError
from .rows import FinishedRows, Outputs, finish_rows
from .settings import StreamSettings
from .stages import prefetch

# Contexts that need more rows of the scene than this are read one by one.
_BUFFER_BYTES = 512 * 2**20


def stream_rows(
    raster: Raster,
    settings: StreamSettings,
    views: Mapping[str, View],
    predict: Callable[[WindowBatch], ArrayLike],
    threshold: float | None = None,
    outputs: Outputs = Outputs(),
    rows: tuple[int, int] | None = None,
    nodata: int | None = None,
    tensors: bool = True,
    may_shrink: bool = True,
) -> Iterator[FinishedRows]:
    """Segment a raster window by window; memory is one band of rows.

    Where memory does not suffice, batches are halved, then the band moves to
    the host, then windows are halved, if the local view has no size of its
    own. Rows that were handed out stay as they are.

    Logits may be tensors or arrays; all that follows is of the same kind.

    Args:
        raster (Raster): The scene.
        settings (StreamSettings): Windows and blending.
        views (Mapping[str, View]): What the network sees of a window.
        predict (Callable): Logits (n, C, h, w) of n windows, (h, w) being
            the windows' size. Called again with fewer windows where memory
            does not suffice.
        threshold (float, optional): For binary models with one channel.
        outputs (Outputs): What is wanted besides labels.
        rows (tuple[int], optional): ``(start, stop)``, the rows wanted; they
            get the very values that they get in a run over all rows. Defaults
            to all.
        nodata (int, optional): Class id of pixels without data; windows that
            have no others are not predicted. By default these pixels are
            predicted like all others.
        tensors (bool): Whether views are read as tensors of PyTorch, else as
            arrays of NumPy. Defaults to True.
        may_shrink (bool): Whether the network takes smaller windows, too.
            Defaults to True.

    Yields:
        FinishedRows: On the CPU, from the top to the bottom.

    Raises:
        WindowTooLargeError: If memory does not suffice for one window.
        ValueError: If ``rows`` are not rows of the scene.
    """
    start, stop = rows or (0, raster.shape[0])
    if not 0 <= start < stop <= raster.shape[0]:
        raise ValueError(
            f'{raster.name}: rows {start} to {stop} wanted, but the scene has '
            f'{raster.shape[0]}'
        )
    while start < stop:
        plan = settings.plan(raster.shape)
        try:
            for found in _stream(
                raster,
                plan,
                settings,
                views,
                predict,
                threshold,
                outputs,
                (start, stop),
                nodata,
                tensors,
            ):
                yield found
                start = found.y + len(found.labels)
        except WindowTooLargeError as error:
            smaller = settings.shrunk() if may_shrink else None
            if smaller is None or views[LOCAL].size is not None:
                raise
            settings = smaller
            compat.log(
                f'{error}. Going on from row {start} with windows of '
                f'{settings.crop_size} pixels.',
                logging.WARNING,
            )


def _stream(
    raster: Raster,
    plan: TilePlan,
    settings: StreamSettings,
    views: Mapping[str, View],
    predict: Callable[[WindowBatch], ArrayLike],
    threshold: float | None,
    outputs: Outputs,
    rows: tuple[int, int],
    nodata: int | None,
    tensors: bool,
) -> Iterator[FinishedRows]:
    """Segment rows with windows of one size, see :func:`stream_rows`."""
    band = BandAccumulator(
        plan,
        settings.blend,
        first_row=rows[0],
        dtype=settings.accumulator,
        on_host=settings.accumulate_on == 'host',
    )
    masked = nodata is not None and raster.has_mask
    mask = MaskBand(plan) if masked else None
    careful = CarefulPredictor(predict, band.move_to_host)
    batches = read_batches(
        raster, plan, views, settings.batch_size, rows, masked, tensors
    )

    def finished(until: int) -> Iterator[FinishedRows]:
        for y, sums, norm in band.finish(until):
            found = finish_rows(y, sums, norm, outputs, threshold)
            if mask is not None:
                found = found.without(~mask.rows(y, sums.shape[1]), nodata)
            yield found

    for batch in prefetch(batches):
        predicted = careful(batch)
        for window, valid in batch.masks:
            logits = None
            if window in batch.windows:
                _, logits = next(predicted)
            # A batch begins and ends where it does in a run over all rows,
            # because results may depend on its size by rounding.
            if not window.touches(*rows):
                continue
            if window.y > band.top:
                yield from finished(window.y)
            if logits is not None:
                band.add(logits, window)
            if mask is not None:
                mask.add(valid, window)
    yield from finished(rows[1])


def read_batches(
    raster: Raster,
    plan: TilePlan,
    views: Mapping[str, View],
    batch_size: int,
    rows: tuple[int, int],
    masked: bool = False,
    tensors: bool = True,
) -> Iterator[WindowBatch]:
    """Read the views of the windows that cover rows, a batch at a time.

    A view of the whole scene is read once.

    Args:
        raster (Raster): The scene.
        plan (TilePlan): Its windows.
        views (Mapping[str, View]): What to read of each.
        batch_size (int): Windows per batch.
        rows (tuple[int]): ``(start, stop)``.
        masked (bool): Whether to read which pixels have data, and to leave
            windows without any unpredicted.
        tensors (bool): Whether views are tensors, else arrays.

    Yields:
        WindowBatch: Of all batches of the plan, those that hold a window
        which touches the rows, whole.
    """
    scene = Window(0, 0, *raster.shape)
    scene_views = {
        name: _read_view(raster, view, scene, tensors)
        for name, view in views.items()
        if view.whole_scene
    }
    first, last = plan.covering(*rows)
    first = first // batch_size * batch_size
    last = -(-last // batch_size) * batch_size
    windows = islice(plan, first, last)
    raster = _buffered(raster, plan, views)
    is_first = True
    while batch := list(islice(windows, batch_size)):
        masks = [
            (window, raster.read_mask(window) if masked else None)
            for window in batch
        ]
        chosen = {
            window for window, mask in masks if mask is None or mask.any()
        }
        if is_first:
            # Always one before any rows are finished: it tells the number of
            # classes.
            chosen.add(next(w for w in batch if w.touches(*rows)))
            is_first = False
        seen = [window for window in batch if window in chosen]
        inputs = [
            {
                name: scene_views[name]
                if view.whole_scene
                else _read_view(raster, view, window, tensors)
                for name, view in views.items()
            }
            for window in seen
        ]
        boxes = [
            {
                name: window.box_in(view.region_of(window, raster.shape))
                for name, view in views.items()
            }
            for window in seen
        ]
        yield WindowBatch(seen, inputs, boxes, masks)


def _buffered(
    raster: Raster, plan: TilePlan, views: Mapping[str, View]
) -> Raster:
    """Let the rows of a file be decoded once, however windows overlap."""
    if raster.in_memory:
        return raster
    window = Window(0, 0, *plan.window_size)
    row = raster.shape[1] * raster.bands * raster.dtype.itemsize
    heights = [
        view.region_of(window, raster.shape).h
        for view in views.values()
        if not view.whole_scene
    ]
    # Windows themselves always: formats without random access need it.
    fitting = [h for h in heights if h * row <= _BUFFER_BYTES]
    return RowBuffer(raster, max(fitting, default=window.h))


def _read_view(
    raster: Raster, view: View, window: Window, tensors: bool
) -> ArrayLike:
    """Read one view of a window, shape (bands, h, w)."""
    region = view.region_of(window, raster.shape)
    how = region, view.size_of(region), view.resampling, view.fill
    if tensors:
        return raster.read_tensor(*how)
    return np.moveaxis(raster.read(*how), 2, 0)
