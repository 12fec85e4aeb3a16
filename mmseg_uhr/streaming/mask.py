"""Which pixels of unfinished rows have data."""

import numpy as np

from ..tiling import TilePlan, Window


class MaskBand:
    """Collects the masks of windows, as the band does their logits.

    Args:
        plan (TilePlan): Where the windows lie.
    """

    def __init__(self, plan: TilePlan) -> None:
        self._height = plan.window_size[0]
        self._valid = np.ones((self._height, plan.shape[1]), bool)

    def add(self, valid: np.ndarray | None, window: Window) -> None:
        """Add the mask of a window.

        Args:
            valid (np.ndarray, optional): Bool (h, w). Defaults to all.
            window (Window): Where it belongs.
        """
        columns = slice(window.x, window.x + window.w)
        rows = self._buffer_rows(window.y, window.h)
        self._valid[rows, columns] = True if valid is None else valid

    def rows(self, y: int, count: int) -> np.ndarray:
        """Return the mask of finished rows.

        Args:
            y (int): First row in pixels of the raster.
            count (int): How many.

        Returns:
            np.ndarray: Bool (count, W).
        """
        return self._valid[self._buffer_rows(y, count)]

    def _buffer_rows(self, y: int, count: int) -> np.ndarray:
        """Return where raster rows live in the buffer."""
        return np.arange(y, y + count) % self._height
