"""Sums of overlapping windows, one band of rows at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .blending import blend_weights
from .plan import TilePlan
from .window import Window


class BandAccumulator:
    """Blends the logits of a tile plan, holding only unfinished rows.

    Windows come in the order of the plan. Once one begins a new row of the
    plan, the rows above it are final; so memory is one window high, whatever
    the height of the raster. Row ``y`` of the raster lives in row ``y % h``
    of the buffers: nothing is ever moved.

    Args:
        plan (TilePlan): Where the windows lie.
        blend (str): See :func:`~mmseg_uhr.tiling.blend_weights`.
    """

    def __init__(self, plan: TilePlan, blend: str = 'uniform') -> None:
        self.plan = plan
        self.top = 0
        self._weights = blend_weights(blend, plan.window_size)
        self._cores = blend == 'centre'
        self._sums: Tensor | None = None
        self._norm: Tensor | None = None

    def add(self, logits: Tensor, window: Window) -> None:
        """Add the logits of a window.

        Args:
            logits (Tensor): Shape (C, h, w), always on one device.
            window (Window): Where they belong; its rows must not be finished.
        """
        if self._sums is None:
            self._allocate(logits)
        if self._weights is not None:
            logits = logits * self._weights
        if self._cores:
            core = self.plan.core(window)
            logits = logits[
                :,
                core.y - window.y : core.y - window.y + core.h,
                core.x - window.x : core.x - window.x + core.w,
            ]
            window = core
        columns = slice(window.x, window.x + window.w)
        first = 0
        for rows in self._buffer_rows(window.y, window.y + window.h):
            part = slice(first, first + rows.stop - rows.start)
            self._sums[:, rows, columns] += logits[:, part]
            self._norm[rows, columns] += (
                1 if self._weights is None else self._weights[part]
            )
            first = part.stop

    def finish(self, until: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Hand out the rows above ``until``, which take no more windows.

        Args:
            until (int): First row that stays, in raster pixels.

        Yields:
            tuple: First row (int), weighted sums of logits (C, rows, W), sums
            of weights (rows, W). They are cleared when the next is asked for.
        """
        for rows in self._buffer_rows(self.top, until):
            sums, norm = self._sums[:, rows], self._norm[rows]
            yield self.top, sums, norm
            sums.zero_()
            norm.zero_()
            self.top += rows.stop - rows.start

    def _buffer_rows(self, start: int, stop: int) -> Iterator[slice]:
        """Yield where raster rows live in the buffers, in order."""
        height = self.plan.window_size[0]
        while start < stop:
            offset = start % height
            length = min(stop - start, height - offset)
            yield slice(offset, offset + length)
            start += length

    def _allocate(self, logits: Tensor) -> None:
        """Make buffers of one window's height, on the logits' device."""
        size = self.plan.window_size[0], self.plan.shape[1]
        # Half-precision sums of many windows lose digits.
        dtype = torch.promote_types(logits.dtype, torch.float32)
        self._sums = logits.new_zeros((len(logits), *size), dtype=dtype)
        self._norm = logits.new_zeros(size, dtype=dtype)
        if self._weights is not None:
            self._weights = self._weights.to(self._sums)
