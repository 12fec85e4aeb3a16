"""Rasters written row by row."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from rasterio.enums import Resampling
from rasterio.windows import Window

from .base import GeoReference, RasterError
from .verify import (
    BLOCK,
    GDAL_ERRORS,
    check_overviews,
    check_rows,
    finish_file,
    opened,
    overview_factors,
    remove_partial,
    row_checksums,
    write_error,
)

# Blocks are lower where a row of them would not fit into GDAL's cache, which
# would then write them before they are complete.
_BLOCK_ROW_BYTES = 48 * 2**20
_LOWEST_BLOCK = 16


class GeoTIFFWriter:
    """Writes a tiled, compressed GeoTIFF from rows in any order.

    Used as a context manager. On leaving it the file is read again and
    compared with what was written, and only then gets its name; a run that
    breaks, or a disk that is full, leaves nothing that looks finished.

    Args:
        path (str | Path): The file to write.
        shape (tuple[int]): ``(H, W)`` in pixels.
        bands (int): Number of bands. Defaults to 1.
        dtype (str): NumPy name of the type. Defaults to ``'uint8'``.
        georef (GeoReference, optional): Where the raster lies.
        palette (Sequence[Sequence[int]], optional): RGB of the values 0, 1,
            ...; makes a paletted file. One band of ``uint8`` only.
        tags (dict[str, str], optional): Texts to store in the file.
        nodata (float, optional): Value of pixels without data.
        descriptions (Sequence[str], optional): Names of the bands.
        overviews (bool): Whether to add the raster at half the resolution, a
            quarter and so on, down to about 512 pixels. Defaults to False.
        categorical (bool): Whether values are class ids, of which overviews
            take some instead of means. A palette implies it. Defaults to
            False.

    Raises:
        RasterError: If the file cannot be written, or rows are missing.
    """

    def __init__(
        self,
        path: str | Path,
        shape: tuple[int, int],
        bands: int = 1,
        dtype: str = 'uint8',
        georef: GeoReference | None = None,
        palette: Sequence[Sequence[int]] | None = None,
        tags: dict | None = None,
        nodata: float | None = None,
        descriptions: Sequence[str] | None = None,
        overviews: bool = False,
        categorical: bool = False,
    ) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(f'.{self.path.name}.partial')
        self.shape = tuple(shape)
        self.palette = palette
        self.tags = tags or {}
        self.descriptions = descriptions or ()
        self.overviews = overviews
        self.categorical = categorical or palette is not None
        self._dtype = np.dtype(dtype)
        self._checksums = np.zeros(shape[0], np.uint32)
        self._written = np.zeros(shape[0], bool)
        block_height, row = BLOCK, shape[1] * bands * self._dtype.itemsize
        while (
            block_height * row > _BLOCK_ROW_BYTES
            and block_height > _LOWEST_BLOCK
        ):
            block_height //= 2
        # Differences of class ids mean nothing; of pixels they do.
        predicts = self._dtype.kind in 'iu' and not self.categorical
        self.profile = dict(
            driver='GTiff',
            height=shape[0],
            width=shape[1],
            count=bands,
            dtype=dtype,
            nodata=nodata,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=block_height,
            compress='deflate',
            predictor=2 if predicts else 1,
            bigtiff='if_safer',
        )
        if bands != 3 and palette is None:
            # GDAL takes the fourth of four bands for transparency.
            self.profile['photometric'] = 'minisblack'
        if georef is not None:
            self.profile.update(crs=georef.crs, transform=georef.transform)

    def __enter__(self) -> 'GeoTIFFWriter':
        self._files = ExitStack()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # What a killed run left: rasterio would open it to replace it.
            remove_partial(self.partial)
            self._dataset = self._files.enter_context(
                opened(self.partial, 'w', **self.profile)
            )
            if self.palette is not None:
                colours = {
                    i: (*map(int, rgb), 255)
                    for i, rgb in enumerate(self.palette)
                }
                self._dataset.write_colormap(1, colours)
            self._dataset.update_tags(**self.tags)
            for i, text in enumerate(self.descriptions, start=1):
                self._dataset.set_band_description(i, text)
        except BaseException as error:
            self._close()
            remove_partial(self.partial)
            if not isinstance(error, GDAL_ERRORS):
                raise
            raise write_error(
                self.path, f'cannot be written ({error})'
            ) from error
        return self

    def write_rows(self, y: int, rows: np.ndarray) -> None:
        """Write full rows.

        Args:
            y (int): First row.
            rows (np.ndarray): Shape (h, W) or (h, W, bands).

        Raises:
            RasterError: If the disk does not take them.
        """
        rows = rows[..., None] if rows.ndim == 2 else rows
        rows = rows.astype(self._dtype, copy=False).transpose(2, 0, 1)
        _, height, width = rows.shape
        try:
            self._dataset.write(rows, window=Window(0, y, width, height))
        except GDAL_ERRORS as error:
            raise write_error(
                self.path, f'row {y} cannot be written ({error})'
            ) from error
        self._checksums[y : y + height] = row_checksums(rows)
        self._written[y : y + height] = True

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._close()
        finally:
            remove_partial(self.partial)

    def _finish(self) -> None:
        """Complete and check the file, and give it its name."""
        missing = np.flatnonzero(~self._written)
        if len(missing):
            self._close()
            raise RasterError(
                str(self.path),
                f'{len(missing)} rows, the first of them row {missing[0]}, '
                'were never written',
            )
        try:
            self._files.close()
            if self.overviews:
                self._add_overviews()
                check_overviews(self.partial)
            # Last: overviews change the file's directory.
            check_rows(self.partial, self._checksums)
            finish_file(self.partial, self.path)
        except GDAL_ERRORS as error:
            raise write_error(
                self.path, f'cannot be finished ({error})'
            ) from error

    def _add_overviews(self) -> None:
        """Add the raster at lower resolutions."""
        factors = overview_factors(self.shape)
        if not factors:
            return
        method = Resampling.nearest if self.categorical else Resampling.average
        with opened(self.partial, 'r+') as dataset:
            dataset.build_overviews(factors, method)

    def _close(self) -> None:
        """Close a file that nobody will see."""
        with suppress(*GDAL_ERRORS):
            self._files.close()


def write_geotiff(
    path: str | Path,
    array: np.ndarray,
    georef: GeoReference | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    tags: dict | None = None,
) -> None:
    """Write an array as a GeoTIFF, see :class:`GeoTIFFWriter`.

    Args:
        path (str | Path): The file to write.
        array (np.ndarray): Shape (H, W) or (H, W, bands).
        georef (GeoReference, optional): Where the raster lies.
        palette (Sequence[Sequence[int]], optional): RGB per value.
        tags (dict[str, str], optional): Texts to store in the file.
    """
    bands = 1 if array.ndim == 2 else array.shape[2]
    with GeoTIFFWriter(
        path,
        array.shape[:2],
        bands,
        array.dtype.name,
        georef,
        palette,
        tags,
    ) as writer:
        writer.write_rows(0, array)
