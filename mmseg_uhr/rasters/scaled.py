"""Rasters of many bits, shown in eight."""

import numpy as np

from .base import Raster


class ScaledRaster(Raster):
    """Maps a range of values linearly to 0-255 (uint8), clipped.

    Args:
        raster (Raster): Raster of any numeric type.
        value_range (tuple[float]): Values that become 0 and 255.

    Raises:
        ValueError: If the range is empty.
    """

    def __init__(
        self, raster: Raster, value_range: tuple[float, float]
    ) -> None:
        low, high = value_range
        if not low < high:
            raise ValueError(
                f'value_range {value_range}: expected (low, high), low < high'
            )
        self.raster = raster
        self.low, self.high = low, high
        self.name, self.shape = raster.name, raster.shape
        self.bands, self.georef = raster.bands, raster.georef
        self.dtype = np.dtype(np.uint8)

    def _read(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        # What has no data becomes 0.
        pixels = self.raster.read(window, size, resampling, fill=self.low)
        scaled = (pixels.astype(np.float32) - self.low) * (
            255 / (self.high - self.low)
        )
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
