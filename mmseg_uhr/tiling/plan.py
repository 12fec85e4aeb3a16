"""Which windows cover a raster."""

from collections.abc import Iterator, Sequence

from .window import Window

PLACEMENTS = ('flush', 'even')


def _starts(length: int, crop: int, stride: int, placement: str) -> list[int]:
    """Return the first pixels of the windows along one axis."""
    last = max(length - crop, 0)
    if placement == 'flush':
        return [*range(0, last, stride), last]
    steps = -(-last // stride)
    return [round(i * last / steps) for i in range(steps)] + [last]


class TilePlan:
    """Windows that cover a raster, in rows from the top, each from the left.

    They lie where stock ``slide_inference`` puts them: a grid of strides
    whose last row and column are moved back so as not to stick out. Or they
    are spread evenly, as FCtL (ICCV 2021) does: as few as no step is longer
    than the stride, all overlapping alike. All have one size: the crop, or
    the raster where that is smaller.

    Args:
        shape (tuple[int]): ``(H, W)`` of the raster in pixels.
        crop_size (Sequence[int]): ``(h, w)`` of a window in pixels.
        stride (Sequence[int]): ``(h, w)`` from window to window in pixels;
            the longest, if they are spread evenly.
        placement (str): ``'flush'`` (as stock) or ``'even'``.

    Raises:
        ValueError: If a size is not positive, the stride leaves gaps, or the
            placement is unknown.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        crop_size: Sequence[int],
        stride: Sequence[int],
        placement: str = 'flush',
    ) -> None:
        if placement not in PLACEMENTS:
            raise ValueError(
                f'placement {placement!r}: expected one of {PLACEMENTS}'
            )
        for name, size in (('crop_size', crop_size), ('stride', stride)):
            if len(size) != 2 or min(size) < 1:
                raise ValueError(
                    f'{name} {tuple(size)}: expected (height, width) in '
                    'pixels, both at least 1'
                )
        if stride[0] > crop_size[0] or stride[1] > crop_size[1]:
            raise ValueError(
                f'stride {tuple(stride)} is larger than crop_size '
                f'{tuple(crop_size)}: pixels between the windows would get no '
                'prediction; use a stride of at most the crop size'
            )
        self.shape = tuple(shape)
        self.window_size = (
            min(crop_size[0], shape[0]),
            min(crop_size[1], shape[1]),
        )
        self.rows, self.columns = (
            _starts(*axis, placement)
            for axis in zip(shape, crop_size, stride, strict=True)
        )

    def core(self, window: Window) -> Window:
        """Return the part of a window that no other window is nearer to.

        Overlaps are halved; together the cores cover the raster once.

        Args:
            window (Window): One of the plan.

        Returns:
            Window: In pixels of the raster.
        """
        y, h = self._core(self.rows, window.y, window.h, self.shape[0])
        x, w = self._core(self.columns, window.x, window.w, self.shape[1])
        return Window(y, x, h, w)

    @staticmethod
    def _core(
        starts: list[int], start: int, length: int, full: int
    ) -> tuple[int, int]:
        """Return begin and length of a core along one axis."""
        i = starts.index(start)
        begin, end = 0, full
        if i > 0:
            begin = (start + starts[i - 1] + length + 1) // 2
        if i + 1 < len(starts):
            end = (starts[i + 1] + start + length + 1) // 2
        return begin, end - begin

    def covering(self, start: int, stop: int) -> tuple[int, int]:
        """Tell which windows touch rows of the raster.

        Args:
            start (int): First row.
            stop (int): Row after the last one.

        Returns:
            tuple[int]: Index of the first window, in the order of the plan,
            and the index after the last one.
        """
        height = self.window_size[0]
        above = sum(y + height <= start for y in self.rows)
        until = sum(y < stop for y in self.rows)
        return above * len(self.columns), until * len(self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Window]:
        for y in self.rows:
            for x in self.columns:
                yield Window(y, x, *self.window_size)
