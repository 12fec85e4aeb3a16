"""Scenes opened as a model expects them."""

from collections.abc import Sequence

import numpy as np

from .base import Raster, RasterError
from .file import FileRaster
from .open import open_raster
from .scaled import ScaledRaster, ValueRange, parse_value_range


class SceneLoader:
    """Opens images as lazy rasters; reads the header only.

    Three bands are delivered in the order blue, green, red, as stock mmseg
    loads images, so that a stock preprocessor's ``bgr_to_rgb=True`` fits.

    Args:
        bands (Sequence[int], optional): Bands of the file to use, counted
            from 1, e.g. ``(1, 2, 3)`` of RGB + NIR or ``(1, 1, 1)`` of a grey
            image. Defaults to the file's, which must then be ``channels``,
            with or without an alpha band.
        channels (int): Bands that the model expects. Defaults to 3.
        dtype (str): NumPy type that the model expects. Defaults to
            ``'uint8'``.
        value_range (tuple[float] | Sequence[tuple[float]], optional):
            ``(low, high)``, the values of a 16-bit or float image that become
            0 and 255, or one such pair per band, in the order of ``bands``.

    Raises:
        ValueError: If the bands are not ``channels``, or a range is empty or
            there is not one per band.
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        channels: int = 3,
        dtype: str = 'uint8',
        value_range: ValueRange | None = None,
    ) -> None:
        if bands is not None and len(bands) != channels:
            raise ValueError(
                f'LoadRaster: bands={tuple(bands)} names {len(bands)} bands '
                f'but channels={channels}'
            )
        self.bands = bands
        self.channels = channels
        self.dtype = np.dtype(dtype)
        self.ranges = None
        if value_range is not None:
            self.ranges = parse_value_range(value_range, channels)

    def open(self, path: str) -> Raster:
        """Open and check one file.

        Args:
            path (str): The file.

        Returns:
            Raster: With the bands and the type that the model expects.

        Raises:
            RasterError: If the file cannot be opened, or its bands or type
                are not what the model expects.
        """
        raster = open_raster(path, self.bands)
        if self.bands is None and raster.file_bands == self.channels:
            # Models of four bands want the fourth, whatever the file says.
            raster = open_raster(path, range(1, self.channels + 1))
        self._check_bands(raster)
        ranges = self.ranges
        if self.channels == 3:
            raster = open_raster(path, raster.band_numbers[::-1])
            ranges = ranges and ranges[::-1]
        if ranges is not None:
            raster = ScaledRaster(raster, ranges)
        if raster.dtype != self.dtype:
            raise RasterError(
                raster.name,
                f'holds {raster.dtype} values, but the model expects '
                f'{self.dtype}; give LoadRaster value_range=(low, high), the '
                'values that become 0 and 255, or dtype='
                f"'{raster.dtype}' if the model was trained on such values",
            )
        return raster

    def _check_bands(self, raster: FileRaster) -> None:
        """Refuse a file with another number of bands than the model's."""
        if raster.bands != self.channels:
            example = tuple(
                min(i + 1, raster.bands) for i in range(self.channels)
            )
            raise RasterError(
                raster.name,
                f'has {raster.bands} band(s), but the model expects '
                f'{self.channels}; choose with bands={example} of LoadRaster '
                '(--bands of tools/segment.py), counted from 1',
            )
