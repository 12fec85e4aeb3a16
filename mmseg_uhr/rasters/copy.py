"""Finished rasters in formats that cannot be written row by row."""

import os
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil

from .base import RasterError
from .verify import (
    BLOCK,
    GDAL_ERRORS,
    check_overviews,
    check_rows,
    finish_file,
    opened,
    read_in_chunks,
    remove_partial,
    row_checksums,
    write_error,
)

_PNG_TYPES = ('uint8', 'uint16')
_PNG_MAX_BANDS = 4
# The last chunk, which libpng does not miss.
_PNG_END = b'\0\0\0\0IEND\xaeB`\x82'


def write_copy(source: str | Path, path: str | Path, driver: str) -> None:
    """Copy a finished GeoTIFF to another format, in flat memory.

    The copy is read again and compared with the source, and only then gets
    its name.

    Args:
        source (str | Path): The GeoTIFF.
        path (str | Path): The file to write.
        driver (str): ``'COG'``: a cloud-optimised GeoTIFF with overviews; it
            keeps georeference, palette, nodata value, tags and names of
            bands. ``'PNG'``: keeps palette and tags, not the georeference; 1
            to 4 bands of ``uint8`` or ``uint16``.

    Raises:
        RasterError: If the source cannot be read, the format cannot hold it,
            or the copy cannot be written.
        ValueError: If the driver is another one.
    """
    source, path = Path(source), Path(path)
    if driver not in ('COG', 'PNG'):
        raise ValueError(f'driver {driver!r}: expected COG or PNG')
    checksums, options = _inspect(source, path, driver)
    partial = path.with_name(f'.{path.name}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial(partial)
        # Without the file of metadata that GDAL puts beside a PNG.
        with rasterio.Env(GDAL_PAM_ENABLED=driver != 'PNG'):
            rasterio.shutil.copy(source, partial, driver=driver, **options)
        check_rows(partial, checksums)
        if driver == 'COG':
            check_overviews(partial)
        elif not _ends_with(partial, _PNG_END):
            raise OSError('the PNG has no end')
        finish_file(partial, path)
    except GDAL_ERRORS as error:
        raise write_error(path, f'cannot be written ({error})') from error
    finally:
        remove_partial(partial)


def _inspect(
    source: Path, path: Path, driver: str
) -> tuple[np.ndarray, dict[str, str]]:
    """Read the rows' checksums, and choose how the driver writes them."""
    try:
        with opened(source) as dataset:
            dtype, bands = dataset.dtypes[0], dataset.count
            if driver == 'PNG' and (
                dtype not in _PNG_TYPES or bands > _PNG_MAX_BANDS
            ):
                raise RasterError(
                    str(path),
                    f'a PNG holds 1 to {_PNG_MAX_BANDS} bands of '
                    f'{" or ".join(_PNG_TYPES)}, not {bands} of {dtype}; '
                    'use a name in .tif',
                )
            layout = dataset.tags(ns='IMAGE_STRUCTURE')
            checksums = [
                checksum
                for _, rows in read_in_chunks(dataset)
                for checksum in row_checksums(rows)
            ]
    except GDAL_ERRORS as error:
        raise RasterError(
            str(source), f'cannot be read to be copied ({error})'
        ) from error
    # Tags go into the PNG itself.
    options = {'WRITE_METADATA_AS_TEXT': 'YES'}
    if driver == 'COG':
        # Whoever wrote the source knew whether values are class ids.
        predicts = layout.get('PREDICTOR', '1') != '1'
        options = dict(
            compress='deflate',
            predictor='yes' if predicts else 'no',
            blocksize=str(BLOCK),
            overview_resampling='average' if predicts else 'nearest',
            bigtiff='if_safer',
        )
    return np.array(checksums, np.uint32), options


def _ends_with(path: Path, end: bytes) -> bool:
    """Tell whether a file ends with these bytes."""
    with open(path, 'rb') as file:
        file.seek(-len(end), os.SEEK_END)
        return file.read() == end
