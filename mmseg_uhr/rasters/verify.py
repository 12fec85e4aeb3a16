"""Proof that a file on disk holds what was written.

GDAL keeps blocks and writes many of them while a file is closed; a disk that
is full then is a line in its log, and the file opens and is zero in places.
"""

import os
import shutil
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from .base import RasterError

# Sides of blocks, and of the smallest overview at most, pixels.
BLOCK = 512
# Copying raises GDAL's own errors.
GDAL_ERRORS = (
    RasterioError,
    rasterio.RasterioIOError,
    CPLE_BaseError,
    OSError,
)


def row_checksums(rows: np.ndarray) -> list[int]:
    """Return a checksum of each row.

    Args:
        rows (np.ndarray): Shape (bands, h, W).

    Returns:
        list[int]: Of h rows.
    """
    checksums = []
    for y in range(rows.shape[1]):
        checksum = 0
        for band in rows:
            checksum = zlib.crc32(np.ascontiguousarray(band[y]), checksum)
        checksums.append(checksum)
    return checksums


@contextmanager
def opened(
    path: Path, mode: str = 'r', **options: object
) -> Iterator[rasterio.DatasetReader]:
    """Open a file that may have no georeference.

    Args:
        path (Path): The file.
        mode (str): As ``rasterio.open``.
        **options: As ``rasterio.open``.

    Yields:
        rasterio.DatasetReader: Closed afterwards.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path, mode, **options)
        except TypeError as error:
            if mode != 'r+':
                raise
            # So rasterio says that it cannot read what it shall update.
            raise OSError(str(error)) from error
    with dataset:
        yield dataset


def read_in_chunks(
    dataset: rasterio.DatasetReader,
) -> Iterator[tuple[int, np.ndarray]]:
    """Read a file from the top down, whole blocks at a time.

    Args:
        dataset (rasterio.DatasetReader): What to read.

    Yields:
        tuple[int, np.ndarray]: First row, and rows (bands, h, W).
    """
    step = max(dataset.block_shapes[0][0], 16)
    for y in range(0, dataset.height, step):
        height = min(step, dataset.height - y)
        yield y, dataset.read(window=Window(0, y, dataset.width, height))


def check_rows(path: Path, expected: np.ndarray) -> None:
    """Read a file and compare its rows with what they should be.

    Args:
        path (Path): The file.
        expected (np.ndarray): Checksum of each row, see
            :func:`row_checksums`.

    Raises:
        OSError: If a row differs, or cannot be read.
        RasterioError: If GDAL cannot read the file.
    """
    with opened(path) as dataset:
        for y, rows in read_in_chunks(dataset):
            found = np.array(row_checksums(rows), np.uint32)
            wrong = np.flatnonzero(found != expected[y : y + len(found)])
            if len(wrong):
                raise OSError(f'row {y + wrong[0]} reads back different')


def overview_factors(shape: tuple[int, int]) -> list[int]:
    """Return by how much the overviews of a raster are smaller.

    Args:
        shape (tuple[int]): ``(H, W)`` in pixels.

    Returns:
        list[int]: 2, 4, ... until the longer side has about 512 pixels, as
        GDAL's COG driver chooses them.
    """
    side, factors = max(shape), []
    while side > BLOCK:
        side //= 2
        factors.append(2 ** (len(factors) + 1))
    return factors


def check_overviews(path: Path) -> None:
    """Read the overviews of a TIFF, and refuse those that lack blocks.

    Args:
        path (Path): The file.

    Raises:
        OSError: If an overview or a block of one is missing.
        RasterioError: If GDAL cannot read one.
    """
    with opened(path) as dataset:
        expected = len(overview_factors(dataset.shape))
        found = len(dataset.overviews(1))
    # Not the factors themselves: GDAL rounds those of narrow rasters.
    if found < expected:
        raise OSError(
            f'{expected - found} of {expected} overviews are missing'
        )
    for level in range(found):
        with opened(path, overview_level=level) as overview:
            height, width = overview.block_shapes[0]
            for y, _ in read_in_chunks(overview):
                for x in range(-(-overview.width // width)):
                    offset = overview.get_tag_item(
                        f'BLOCK_OFFSET_{x}_{y // height}', 'TIFF', bidx=1
                    )
                    if offset is None:
                        raise OSError(
                            f'a block of overview {level + 1} is missing'
                        )


def write_error(path: Path, problem: str) -> RasterError:
    """Make the error of a file that cannot be written.

    Args:
        path (Path): Its final name.
        problem (str): What went wrong.

    Returns:
        RasterError: With the space that is left, the likely cause.
    """
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**20
    return RasterError(
        str(path),
        f'{problem}; {folder} has {free:.0f} MiB of free space left: if that '
        'is too little, or a quota or limit of file sizes holds, make room '
        'or write elsewhere',
    )


def finish_file(partial: Path, path: Path) -> None:
    """Give a complete file its name, safe from a loss of power.

    Args:
        partial (Path): The file.
        path (Path): Its final name, in the same folder.

    Raises:
        OSError: If the disk does not take it.
    """
    with open(partial, 'rb') as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def remove_partial(partial: Path) -> None:
    """Remove an unfinished file and what GDAL keeps beside it.

    Args:
        partial (Path): The file; it need not exist.
    """
    for suffix in ('', '.aux.xml', '.ovr', '.ovr.tmp', '.msk.ovr.tmp'):
        # Nor need its folder.
        with suppress(OSError):
            os.unlink(f'{partial}{suffix}')
