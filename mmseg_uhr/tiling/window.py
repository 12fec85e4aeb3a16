"""Rectangles of a raster."""

from typing import NamedTuple


class Window(NamedTuple):
    """A rectangle in full-resolution pixels; a context may stick out.

    Args:
        y (int): First row.
        x (int): First column.
        h (int): Rows.
        w (int): Columns.
    """

    y: int
    x: int
    h: int
    w: int

    def touches(self, start: int, stop: int) -> bool:
        """Tell whether the window has any of the rows start to stop - 1."""
        return self.y < stop and self.y + self.h > start

    def grown(self, factor: float) -> 'Window':
        """Return a window ``factor`` times as high and wide, same centre."""
        h, w = round(self.h * factor), round(self.w * factor)
        return Window(
            self.y - (h - self.h) // 2, self.x - (w - self.w) // 2, h, w
        )

    def box_in(self, region: 'Window') -> tuple[float, float, float, float]:
        """Tell where the window lies in a region.

        Args:
            region (Window): Usually a larger window around this one.

        Returns:
            tuple[float]: ``(y, x, h, w)`` as fractions of the region.
        """
        return (
            (self.y - region.y) / region.h,
            (self.x - region.x) / region.w,
            self.h / region.h,
            self.w / region.w,
        )
