"""Raster files, read by window through GDAL."""

import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# GDAL keeps decoded blocks; its default bound is 5 % of the machine's memory
# per process. It is read at start-up, so set it before GDAL is loaded.
os.environ.setdefault('GDAL_CACHEMAX', '64')

import numpy as np  # noqa: E402
import rasterio  # noqa: E402
from rasterio.enums import (  # noqa: E402
    ColorInterp,
    MaskFlags,
    Resampling,
)
from rasterio.errors import (  # noqa: E402
    NotGeoreferencedWarning,
    RasterioError,
    RasterioIOError,
)
from rasterio.windows import Window  # noqa: E402

from .array import resize_array  # noqa: E402
from .base import GeoReference, Raster, RasterError  # noqa: E402
from .cache import DECODED_IMAGES  # noqa: E402
from .limits import check_pixels  # noqa: E402

_RESAMPLING = {'area': Resampling.average, 'nearest': Resampling.nearest}
# Below this a whole decode is cheap enough not to care, in pixels.
_SMALL_IMAGE = 2**20
# Some programs append a little data after the last chunk of a PNG, in bytes.
_PNG_TAIL = 4096
_READ_ERRORS = (RasterioIOError, RasterioError, OSError)


# Formats that are decoded from the top; going back means starting again.
_SCANNED = ('PNG', 'JPEG', 'GIF', 'BMP', 'WEBP')
# Names that GDAL knows and that are no local files: /vsizip/..., https://...,
# NETCDF:...; a single letter is a drive.
_NOT_LOCAL = re.compile(r'/vsi|[A-Za-z][A-Za-z0-9+_]+:')


def file_version(name: str) -> tuple[int, ...]:
    """Tell what changes when a file is written again.

    Args:
        name (str): A path, or anything that GDAL opens.

    Returns:
        tuple[int]: Bytes and time of change (ns) of a local file or folder;
        empty for what is not local.

    Raises:
        RasterError: If a local file does not exist.
    """
    try:
        stat = os.stat(name)
    except OSError as error:
        if _NOT_LOCAL.match(name):
            return ()
        raise RasterError(name, f'no such file ({error})') from error
    return stat.st_size, stat.st_mtime_ns


class FileRaster(Raster):
    """A file that GDAL opens: GeoTIFF, COG, PNG, JPEG, JPEG 2000, VRT, ...

    Files made of small blocks (tiled TIFF) are read block by block. Formats
    without random access (PNG, JPEG, a TIFF of one strip) are decoded once
    and kept in a cache that is bounded in bytes (environment variable
    ``MMSEG_UHR_DECODED_CACHE_MIB``, 512 by default); images that it cannot
    hold are decoded again for each window, unless a
    :class:`~mmseg_uhr.rasters.RowBuffer` reads them in sequence. A header
    that claims more pixels than ``MMSEG_UHR_MAX_PIXELS`` of such a format is
    refused; files of small blocks may have any size.

    Pixels of the nodata value and NaN are read as ``fill``; pixels that an
    alpha band or an internal mask hides are read as they are, and
    :meth:`read_mask` tells of all. The object can be sent to other processes:
    each opens the file for itself.

    Args:
        path (str | Path): The file, or another name that GDAL knows, such as
            ``/vsizip/scenes.zip/a.tif`` or ``https://...``.
        bands (Sequence[int], optional): Bands to deliver, counted from 1, in
            this order. Defaults to all but an alpha band.

    Raises:
        RasterError: If the file is missing, is no raster, lacks a band, or
            claims too many pixels.
    """

    def __init__(
        self, path: str | Path, bands: Sequence[int] | None = None
    ) -> None:
        self.name = str(path)
        self._lock = threading.Lock()
        self._dataset, self._pid = None, None
        self._is_local = bool(file_version(self.name))
        dataset = self._open()
        self.shape = dataset.shape
        self.file_bands = dataset.count
        numbers = range(1, dataset.count + 1)
        alpha = [
            number
            for number, meaning in zip(numbers, dataset.colorinterp)
            if meaning is ColorInterp.alpha
        ]
        colours = [number for number in numbers if number not in alpha]
        self.band_numbers = tuple(bands or colours or numbers)
        if not set(self.band_numbers) <= set(numbers):
            raise RasterError(
                self.name,
                f'bands {self.band_numbers} asked for, but the file has '
                f'{dataset.count}; choose with `bands`, counted from 1',
            )
        self.bands = len(self.band_numbers)
        self.dtype = self._find_type(dataset)
        if dataset.crs is not None or not dataset.transform.is_identity:
            self.georef = GeoReference(dataset.crs, dataset.transform)
        self._find_mask(dataset, alpha)
        if dataset.driver == 'PNG' and self._is_local:
            self._check_png_end()
        self._find_access(dataset)

    def _find_type(self, dataset: rasterio.DatasetReader) -> np.dtype:
        """Choose a type that holds the values of all bands."""
        types = {dataset.dtypes[i - 1] for i in self.band_numbers}
        try:
            return np.dtype(np.result_type(*types))
        except TypeError as error:
            raise RasterError(
                self.name,
                f'holds {", ".join(sorted(types))} values; expected integers '
                'or floats: convert it first, such as to magnitudes',
            ) from error

    def _find_mask(
        self, dataset: rasterio.DatasetReader, alpha: list[int]
    ) -> None:
        """Look up what tells which pixels have data."""
        self.nodata = dataset.nodata
        self._nodata = tuple(
            _representable(dataset.nodatavals[number - 1], self.dtype)
            for number in self.band_numbers
        )
        # An alpha band that is asked for holds pixels: many files of red,
        # green, blue and infrared are marked so by mistake.
        hidden = [i for i in alpha if i not in self.band_numbers]
        self._alpha = tuple(hidden[:1])
        read = self.band_numbers + self._alpha
        self._has_one_type = len({dataset.dtypes[i - 1] for i in read}) == 1
        flags = dataset.mask_flag_enums[self.band_numbers[0] - 1]
        self._has_own_mask = (
            MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
        )
        self._values_may_miss = self.dtype.kind == 'f' or any(
            value is not None for value in self._nodata
        )
        self.has_mask = bool(
            self._values_may_miss or self._alpha or self._has_own_mask
        )

    def _find_access(self, dataset: rasterio.DatasetReader) -> None:
        """Look up in which pieces the file can be read."""
        height, width = dataset.block_shapes[0]
        pixels = self.shape[0] * self.shape[1]
        # Such are read fastest from the top down.
        self._is_scanned = dataset.driver in _SCANNED or _has_one_strip(
            dataset
        )
        check_pixels(self.name, self.shape, (height, width), self._is_scanned)
        # A block of more than a quarter of the image is no random access.
        self.random_access = pixels <= _SMALL_IMAGE or (
            4 * height * width <= pixels and not self._is_scanned
        )
        self.has_overviews = self.random_access and bool(dataset.overviews(1))
        self._fits_cache = (
            pixels * self.bands * self.dtype.itemsize
            <= DECODED_IMAGES.max_bytes
        )
        if self.random_access or self._is_scanned or not self._fits_cache:
            self.block_height = height

    def identity(self) -> dict[str, Any]:
        """Tell what a result depends on, see :meth:`Raster.identity`."""
        identity = super().identity()
        identity['band_numbers'] = list(self.band_numbers)
        if self._is_local:
            # The file may be moved while a run is interrupted.
            identity['name'] = os.path.basename(self.name)
            size, mtime_ns = file_version(self.name)
            identity.update(bytes=size, mtime_ns=mtime_ns)
        return identity

    def read_mask(
        self, window: tuple[int, int, int, int]
    ) -> np.ndarray | None:
        """Tell which pixels have data, see :meth:`Raster.read_mask`.

        Those whose bands all hold the nodata value or NaN have none, nor have
        those that an alpha band or the file's mask hides.
        """
        if not self.has_mask:
            return None
        size, pixels, alpha = window[2:], None, None
        if self._values_may_miss:
            pixels = self._read(window, size, 'nearest')
        if self._alpha:
            alpha = self._read_bands(self._alpha, window, size, 'nearest')
        return self._valid(window, pixels, alpha)

    def _valid(
        self,
        window: tuple[int, int, int, int],
        pixels: np.ndarray | None,
        alpha: np.ndarray | None,
    ) -> np.ndarray | None:
        """Return which pixels have data, bool (h, w); None if all have."""
        valid = np.ones(window[2:], bool)
        if self._values_may_miss:
            valid &= ~self._missing(pixels).all(axis=2)
        if alpha is not None:
            valid &= alpha[..., 0] > 0
        if self._has_own_mask:
            y, x, h, w = window
            with self._reading(window):
                valid &= (
                    self._open().read_masks(
                        self.band_numbers[0], window=Window(x, y, w, h)
                    )
                    > 0
                )
        return None if valid.all() else valid

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
        return self._read_bands(self.band_numbers, window, size, resampling)

    def _read_rows(
        self, y: int, height: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        window = (y, 0, height, self.shape[1])
        # GDAL goes on where it stopped; the alpha band comes along.
        read = self._read_file if self._is_scanned else self._read_bands
        found = read(
            self.band_numbers + self._alpha, window, window[2:], 'nearest'
        )
        pixels, alpha = found[..., : self.bands], found[..., self.bands :]
        if not self.has_mask:
            return pixels, None
        valid = self._valid(window, pixels, alpha if self._alpha else None)
        return pixels, valid

    def _read_bands(
        self,
        bands: tuple[int, ...],
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        """Read from the file, or from all of its pixels, decoded once."""
        if self.random_access or not self._fits_cache:
            return self._read_file(bands, window, size, resampling)
        y, x, h, w = window
        version = file_version(self.name)
        whole = (0, 0, *self.shape)
        image = DECODED_IMAGES.get(
            (self.name, version, bands),
            lambda: self._read_file(bands, whole, self.shape, 'nearest'),
        )
        return resize_array(image[y : y + h, x : x + w], size, resampling)

    def _read_file(
        self,
        bands: tuple[int, ...],
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        """Read bands from the file itself, see :meth:`Raster.read`."""
        y, x, h, w = window
        shrinks = size[0] * size[1] < h * w
        method = (
            Resampling.bilinear
            if resampling == 'area' and not shrinks
            else _RESAMPLING[resampling]
        )
        pixels = np.empty((len(bands), *size), self.dtype)
        # Bands of several types, as VRTs have, are not read together.
        step = len(bands) if self._has_one_type else 1
        with self._reading(window):
            for i in range(0, len(bands), step):
                self._open().read(
                    list(bands[i : i + step]),
                    window=Window(x, y, w, h),
                    out=pixels[i : i + step],
                    resampling=method,
                )
        return pixels.transpose(1, 2, 0)

    @contextmanager
    def _reading(self, window: tuple[int, int, int, int]) -> Iterator[None]:
        """Have the dataset alone; name the window if it cannot be read."""
        y, x, h, w = window
        try:
            # A GDAL dataset must not be read by two threads at a time.
            with self._lock:
                yield
        except _READ_ERRORS as error:
            raise RasterError(
                self.name,
                f'rows {y}-{y + h}, columns {x}-{x + w} cannot be read '
                f'({error}); the file is probably truncated or corrupt: copy '
                'or download it again',
            ) from error

    def _missing(self, pixels: np.ndarray) -> np.ndarray | None:
        """Tell which values are the file's nodata value, or NaN."""
        if not self._values_may_miss:
            return None
        if pixels.dtype.kind == 'f':
            missing = np.isnan(pixels)
        else:
            missing = np.zeros(pixels.shape, bool)
        for i, value in enumerate(self._nodata):
            if value is not None:
                missing[..., i] |= pixels[..., i] == value
        return missing


def _representable(value: float | None, dtype: np.dtype) -> Any:
    """Return a nodata value in the pixels' type; None if they have none."""
    if value is None or np.isnan(value):
        return None
    if dtype.kind in 'iu':
        limits = np.iinfo(dtype)
        if value != int(value) or not limits.min <= value <= limits.max:
            return None
    return dtype.type(value)


def _has_one_strip(dataset: rasterio.DatasetReader) -> bool:
    """Tell whether a TIFF is one compressed strip that GDAL shows as rows.

    GDAL does so where the strip is high, and scans it from the top.
    """
    structure = dataset.tags(ns='IMAGE_STRUCTURE')
    if dataset.driver != 'GTiff' or 'COMPRESSION' not in structure:
        return False
    if dataset.block_shapes[0][0] != 1 or dataset.shape[0] == 1:
        return False
    offsets = [
        dataset.get_tag_item(f'BLOCK_OFFSET_0_{row}', 'TIFF', bidx=1)
        for row in (0, 1)
    ]
    return offsets[0] is not None and offsets[1] is None
