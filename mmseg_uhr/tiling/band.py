"""Sums of overlapping windows, one band of rows at a time."""

from collections.abc import Iterator, Sequence
from types import ModuleType

from .arrays import ArrayLike, operations_of
from .blending import blend_profiles
from .plan import TilePlan
from .window import Window


class BandAccumulator:
    """Blends the logits of a tile plan, holding only unfinished rows.

    Windows come in the order of the plan. Once one begins a new row of the
    plan, the rows above it are final; so memory is one window high, whatever
    the height of the raster. Row ``y`` of the raster lives in row ``y % h``
    of the buffer: nothing is ever moved. Windows form a grid and weights are
    products of a row's and a column's, so the sums of weights are, too, and
    need no buffer.

    Logits are arrays of NumPy or tensors of PyTorch, always of one kind.

    Args:
        plan (TilePlan): Where the windows lie.
        blend (str): See :func:`~mmseg_uhr.tiling.blend_weights`.
        first_row (int): Rows above it are left out. Defaults to 0.
        dtype (str): Type of the sums. Defaults to ``'float32'``; logits of
            higher precision raise it.
        on_host (bool): Whether the sums are kept in host memory instead of
            the logits' device. Defaults to False.
    """

    def __init__(
        self,
        plan: TilePlan,
        blend: str = 'uniform',
        first_row: int = 0,
        dtype: str = 'float32',
        on_host: bool = False,
    ) -> None:
        self.plan = plan
        self.top = first_row
        self.dtype = dtype
        self._cores = blend == 'centre'
        self._blend = blend
        self._weights: ArrayLike | None = None
        self._sums: ArrayLike | None = None
        self._on_host = on_host

    def add(self, logits: ArrayLike, window: Window) -> None:
        """Add the logits of a window.

        Args:
            logits (ArrayLike): Shape (C, h, w), always on one device.
            window (Window): Where they belong; it must touch rows that are
                not finished.
        """
        if self._sums is None:
            self._allocate(logits)
        logits = self._operations.converted(logits, self._sums)
        weights = self._weights
        y, x = window.y, window.x
        if self._cores:
            window = self.plan.core(window)
        # Rows above the first one wanted have no place in the buffer.
        first = max(window.y, self.top)
        columns = slice(window.x, window.x + window.w)
        inside = slice(window.x - x, window.x - x + window.w)
        for rows in self._buffer_rows(first, window.y + window.h):
            part = slice(first - y, first - y + rows.stop - rows.start)
            target = self._sums[:, rows, columns]
            if weights is None:
                target += logits[:, part, inside]
            else:
                self._operations.add_product(
                    target, logits[:, part, inside], weights[part, inside]
                )
            first += rows.stop - rows.start

    def finish(
        self, until: int
    ) -> Iterator[tuple[int, ArrayLike, tuple[ArrayLike, ArrayLike]]]:
        """Hand out the rows above ``until``, which take no more windows.

        Args:
            until (int): First row that stays, in raster pixels.

        Yields:
            tuple: First row (int); weighted sums of logits (C, rows, W),
            cleared when the next are asked for; sums of weights, which are
            products of a row's (rows) and a column's (W).
        """
        for rows in self._buffer_rows(self.top, until):
            sums = self._sums[:, rows]
            stop = self.top + rows.stop - rows.start
            yield (
                self.top,
                sums,
                (self._row_norm[self.top : stop], self._column_norm),
            )
            sums[...] = 0
            self.top = stop

    def move_to_host(self) -> bool:
        """Keep the sums in host memory from now on.

        Returns:
            bool: Whether this freed memory of another device.
        """
        self._on_host = True
        if self._sums is None or self._operations.on_host(self._sums):
            return False
        self._sums = self._operations.to_host(self._sums)
        self._move_weights()
        return True

    def _buffer_rows(self, start: int, stop: int) -> Iterator[slice]:
        """Yield where raster rows live in the buffer, in order."""
        height = self.plan.window_size[0]
        while start < stop:
            offset = start % height
            length = min(stop - start, height - offset)
            yield slice(offset, offset + length)
            start += length

    def _allocate(self, logits: ArrayLike) -> None:
        """Make a buffer of one window's height, on the logits' device."""
        self._operations = operations_of(logits)
        size = len(logits), self.plan.window_size[0], self.plan.shape[1]
        self._sums = self._operations.zeros(
            size, logits, self.dtype, self._on_host
        )
        self._make_weights(self._operations.module)
        self._move_weights()

    def _make_weights(self, module: ModuleType) -> None:
        """Make the weights of a window and their sums on the raster."""
        plan = self.plan
        profiles = blend_profiles(self._blend, plan.window_size, module)
        if profiles is not None:
            self._weights = profiles[0][:, None] * profiles[1]
        self._row_norm, self._column_norm = (
            module.ones(full, dtype=module.float32)
            if self._cores
            else _sum_of_profiles(starts, length, full, profile, module)
            for starts, length, full, profile in zip(
                (plan.rows, plan.columns),
                plan.window_size,
                plan.shape,
                profiles or (None, None),
                strict=True,
            )
        )

    def _move_weights(self) -> None:
        """Bring the weights to where the sums are."""
        move = self._operations
        if self._weights is not None:
            self._weights = move.converted(self._weights, self._sums)
        self._row_norm = move.placed(self._row_norm, self._sums)
        self._column_norm = move.placed(self._column_norm, self._sums)


def _sum_of_profiles(
    starts: Sequence[int],
    length: int,
    full: int,
    profile: ArrayLike | None,
    module: ModuleType,
) -> ArrayLike:
    """Add the weights of all windows along one axis, shape (full,)."""
    sums = module.zeros(full, dtype=module.float32)
    for start in starts:
        sums[start : start + length] += 1 if profile is None else profile
    return sums
