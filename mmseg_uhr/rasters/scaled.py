"""Rasters of many bits, shown in eight."""

from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from .base import Raster

Range = tuple[float, float]
ValueRange = Union[Range, Sequence[Range]]


def parse_value_range(value_range: ValueRange, bands: int) -> list[Range]:
    """Check the ranges of a scaled raster.

    Args:
        value_range (tuple[float] | Sequence[tuple[float]]): ``(low, high)``,
            or one such pair per band.
        bands (int): Number of bands.

    Returns:
        list[tuple[float]]: One pair per band.

    Raises:
        ValueError: If a range is empty or no pair of numbers, or the number
            of pairs is not the number of bands.
    """
    ranges = np.array(value_range, dtype=object)
    if ranges.shape == (2,) and not isinstance(ranges[0], (tuple, list)):
        ranges = np.stack([ranges] * bands)
    expected = (
        f'expected (low, high) with low < high, or one such pair for each of '
        f'the {bands} band(s)'
    )
    if ranges.shape != (bands, 2):
        raise ValueError(f'value_range {value_range}: {expected}')
    try:
        pairs = [(float(low), float(high)) for low, high in ranges]
    except (TypeError, ValueError) as error:
        raise ValueError(f'value_range {value_range}: {expected}') from error
    if not all(low < high for low, high in pairs):
        raise ValueError(f'value_range {value_range}: {expected}')
    return pairs


class ScaledRaster(Raster):
    """Maps a range of values linearly to 0-255 (uint8), clipped.

    What has no data becomes 0.

    Args:
        raster (Raster): Raster of any numeric type.
        value_range (tuple[float] | Sequence[tuple[float]]): ``(low, high)``,
            the values that become 0 and 255, or one such pair per band.

    Raises:
        ValueError: If a range is empty, or there is not one per band.
    """

    def __init__(self, raster: Raster, value_range: ValueRange) -> None:
        self.ranges = parse_value_range(value_range, raster.bands)
        self.raster = raster
        self.name, self.shape = raster.name, raster.shape
        self.bands, self.georef = raster.bands, raster.georef
        self.has_mask = raster.has_mask
        self.block_height = raster.block_height
        self.has_overviews = raster.has_overviews
        self.dtype = np.dtype(np.uint8)

    def identity(self) -> dict[str, Any]:
        """Tell what a result depends on, see :meth:`Raster.identity`."""
        return dict(
            self.raster.identity(),
            dtype=self.dtype.name,
            value_range=[list(pair) for pair in self.ranges],
        )

    def read_mask(
        self, window: tuple[int, int, int, int]
    ) -> np.ndarray | None:
        """Tell which pixels have data, see :meth:`Raster.read_mask`."""
        return self.raster.read_mask(window)

    def _read(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        return self._scale(self.raster._read(window, size, resampling))

    def _read_rows(
        self, y: int, height: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        pixels, mask = self.raster._read_rows(y, height)
        return self._scale(pixels), mask

    def _scale(self, pixels: np.ndarray) -> np.ndarray:
        """Scale values (h, w, bands)."""
        low, high = np.array(self.ranges, np.float32).T
        scaled = (pixels.astype(np.float32) - low) * (255 / (high - low))
        np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled)
        missing = self.raster._missing(pixels)
        if missing is not None:
            # NaN, among others, cannot be cast.
            scaled[missing] = 0
        return scaled.astype(np.uint8)
