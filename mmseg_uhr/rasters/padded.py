"""Rasters that are larger than what they show."""

import numpy as np

from .base import Raster


class PaddedRaster(Raster):
    """A raster with more rows and columns, below and to the right.

    For networks that take windows of one size only.

    Args:
        raster (Raster): What it shows.
        shape (tuple[int]): ``(H, W)`` in pixels, no less than the raster's.
        fill (float): Value of the other pixels; they have no data.
    """

    def __init__(
        self, raster: Raster, shape: tuple[int, int], fill: float = 0
    ) -> None:
        self.raster, self.shape, self.fill = raster, tuple(shape), fill
        self.name, self.bands = raster.name, raster.bands
        self.dtype, self.georef = raster.dtype, raster.georef
        self.has_mask = raster.has_mask
        self.in_memory = raster.in_memory
        self.block_height = raster.block_height
        self.has_overviews = raster.has_overviews

    def identity(self) -> dict:
        """Tell what a result depends on, see :meth:`Raster.identity`."""
        return self.raster.identity()

    def read_mask(
        self, window: tuple[int, int, int, int]
    ) -> np.ndarray | None:
        """Tell which pixels have data, see :meth:`Raster.read_mask`."""
        y, x, h, w = window
        rows = min(max(self.raster.shape[0] - y, 0), h)
        columns = min(max(self.raster.shape[1] - x, 0), w)
        mask = np.zeros((h, w), bool)
        if rows and columns:
            inside = self.raster.read_mask((y, x, rows, columns))
            mask[:rows, :columns] = True if inside is None else inside
        return None if mask.all() else mask

    def _read(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        return self.raster.read(window, size, resampling, self.fill)
