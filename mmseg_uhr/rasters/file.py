"""Raster files, read by window through GDAL."""

import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

# GDAL keeps decoded blocks; its default bound is 5 % of the machine's memory
# per process. It is read at start-up, so set it before GDAL is loaded.
os.environ.setdefault('GDAL_CACHEMAX', '128')

import numpy as np  # noqa: E402
import rasterio  # noqa: E402
from rasterio.enums import Resampling  # noqa: E402
from rasterio.errors import (  # noqa: E402
    NotGeoreferencedWarning,
    RasterioError,
    RasterioIOError,
)
from rasterio.windows import Window  # noqa: E402

from .array import resize_array  # noqa: E402
from .base import GeoReference, Raster, RasterError  # noqa: E402
from .cache import DECODED_IMAGES  # noqa: E402

_RESAMPLING = {'area': Resampling.average, 'nearest': Resampling.nearest}
# Below this a whole decode is cheap enough not to care, in pixels.
_SMALL_IMAGE = 2**20
# Some programs append a little data after the last chunk of a PNG, in bytes.
_PNG_TAIL = 4096
_READ_ERRORS = (RasterioIOError, RasterioError, OSError)


class FileRaster(Raster):
    """A file that GDAL opens: GeoTIFF, COG, PNG, JPEG, JPEG 2000, VRT, ...

    Files made of small blocks (tiled TIFF) are read block by block. Formats
    without random access (PNG, JPEG, a TIFF of one strip) are decoded once
    and kept in a cache that is bounded in bytes (environment variable
    ``MMSEG_UHR_DECODED_CACHE_MIB``, 512 by default). Pixels of the file's
    nodata value and NaN are read as ``fill``. The object can be sent to other
    processes: each opens the file for itself.

    Args:
        path (str | Path): The file.
        bands (Sequence[int], optional): Bands to deliver, counted from 1, in
            this order. Defaults to all.

    Raises:
        RasterError: If the file is missing, is no raster, or lacks a band.
    """

    def __init__(
        self, path: str | Path, bands: Sequence[int] | None = None
    ) -> None:
        self.name = str(path)
        self._lock = threading.Lock()
        self._dataset, self._pid = None, None
        if not os.path.isfile(self.name):
            raise RasterError(self.name, 'no such file')
        dataset = self._open()
        self.shape = dataset.shape
        self.file_bands = dataset.count
        self.band_numbers = tuple(bands or range(1, dataset.count + 1))
        if not set(self.band_numbers) <= set(range(1, dataset.count + 1)):
            raise RasterError(
                self.name,
                f'bands {self.band_numbers} asked for, but the file has '
                f'{dataset.count}; choose with `bands`, counted from 1',
            )
        self.bands = len(self.band_numbers)
        types = {dataset.dtypes[i - 1] for i in self.band_numbers}
        self.dtype = np.dtype(np.result_type(*types))
        if dataset.crs is not None:
            self.georef = GeoReference(dataset.crs, dataset.transform)
        self.nodata = dataset.nodata
        if dataset.driver == 'PNG':
            self._check_png_end()
        height, width = dataset.block_shapes[0]
        pixels = self.shape[0] * self.shape[1]
        # A block of more than a quarter of the image is no random access.
        self.random_access = pixels <= _SMALL_IMAGE or (
            4 * height * width <= pixels
            and dataset.driver not in ('PNG', 'JPEG', 'GIF', 'BMP', 'WEBP')
        )

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        state.update(_dataset=None, _pid=None, _lock=None)
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _open(self) -> rasterio.DatasetReader:
        """Open the file once per process: forks must not share handles."""
        if self._pid != os.getpid():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter('ignore', NotGeoreferencedWarning)
                    self._dataset = rasterio.open(self.name)
            except _READ_ERRORS as error:
                raise RasterError(
                    self.name,
                    f'cannot be opened as an image ({error}); if it is one, '
                    'it may be truncated: copy or download it again',
                ) from error
            self._pid = os.getpid()
        return self._dataset

    def _check_png_end(self) -> None:
        """Refuse a PNG without its last chunk: GDAL reads it as black."""
        with open(self.name, 'rb') as file:
            file.seek(max(os.path.getsize(self.name) - _PNG_TAIL, 0))
            if b'IEND' not in file.read():
                raise RasterError(
                    self.name,
                    'the PNG has no end: it is truncated; copy or download '
                    'it again',
                )

    def _read(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        if self.random_access:
            return self._read_file(window, size, resampling)
        y, x, h, w = window
        stat = os.stat(self.name)
        key = (self.name, stat.st_mtime_ns, stat.st_size, self.band_numbers)
        image = DECODED_IMAGES.get(
            key,
            lambda: self._read_file(
                (0, 0, *self.shape), self.shape, 'nearest'
            ),
        )
        return resize_array(image[y : y + h, x : x + w], size, resampling)

    def _read_file(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        """Read from the file itself, see :meth:`Raster.read`."""
        y, x, h, w = window
        shrinks = size[0] * size[1] < h * w
        method = (
            Resampling.bilinear
            if resampling == 'area' and not shrinks
            else _RESAMPLING[resampling]
        )
        try:
            # A GDAL dataset must not be read by two threads at a time.
            with self._lock:
                pixels = self._open().read(
                    list(self.band_numbers),
                    window=Window(x, y, w, h),
                    out_shape=(self.bands, *size),
                    resampling=method,
                )
        except _READ_ERRORS as error:
            raise RasterError(
                self.name,
                f'rows {y}-{y + h}, columns {x}-{x + w} cannot be read '
                f'({error}); the file is probably truncated or corrupt: copy '
                'or download it again',
            ) from error
        return pixels.transpose(1, 2, 0)

    def _fill_nodata(self, pixels: np.ndarray, fill: float) -> np.ndarray:
        """Replace the file's nodata value, and NaN."""
        missing = np.zeros(1, bool)
        if pixels.dtype.kind == 'f':
            missing = np.isnan(pixels)
        if self.nodata is not None and not np.isnan(self.nodata):
            missing = missing | (pixels == self.nodata)
        # Not in place: the pixels may be a part of a cached image.
        if not missing.any():
            return pixels
        return np.where(missing, self.dtype.type(fill), pixels)
