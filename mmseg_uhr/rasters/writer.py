"""Rasters written row by row."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from .base import GeoReference, RasterError

_BLOCK = 256


class GeoTIFFWriter:
    """Writes a tiled, compressed GeoTIFF from rows in any order.

    Used as a context manager. The file gets its name when all went well; a
    run that breaks leaves nothing that looks finished.

    Args:
        path (str | Path): The file to write.
        shape (tuple[int]): ``(H, W)`` in pixels.
        bands (int): Number of bands. Defaults to 1.
        dtype (str): NumPy name of the type. Defaults to ``'uint8'``.
        georef (GeoReference, optional): Where the raster lies.
        palette (Sequence[Sequence[int]], optional): RGB of the values 0, 1,
            ...; makes a paletted file. One band of ``uint8`` only.
        tags (dict[str, str], optional): Texts to store in the file.

    Raises:
        RasterError: If the file cannot be written.
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
    ) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(f'.{self.path.name}.partial')
        self.palette = palette
        self.tags = tags or {}
        is_integer = np.dtype(dtype).kind in 'iu'
        self.profile = dict(
            driver='GTiff',
            height=shape[0],
            width=shape[1],
            count=bands,
            dtype=dtype,
            tiled=True,
            blockxsize=_BLOCK,
            blockysize=_BLOCK,
            compress='deflate',
            # Differences of class ids mean nothing; of pixels they do.
            predictor=2 if is_integer and palette is None else 1,
            bigtiff='if_safer',
        )
        if georef is not None:
            self.profile.update(crs=georef.crs, transform=georef.transform)

    def __enter__(self) -> 'GeoTIFFWriter':
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', NotGeoreferencedWarning)
                self._dataset = rasterio.open(
                    self.partial, 'w', **self.profile
                )
        except (rasterio.RasterioIOError, OSError) as error:
            raise RasterError(
                str(self.path), f'cannot be written ({error})'
            ) from error
        if self.palette is not None:
            colours = {
                i: (*map(int, rgb), 255) for i, rgb in enumerate(self.palette)
            }
            self._dataset.write_colormap(1, colours)
        self._dataset.update_tags(**self.tags)
        return self

    def write_rows(self, y: int, rows: np.ndarray) -> None:
        """Write full rows.

        Args:
            y (int): First row.
            rows (np.ndarray): Shape (h, W) or (h, W, bands).
        """
        rows = rows[..., None] if rows.ndim == 2 else rows
        height, width = rows.shape[:2]
        try:
            self._dataset.write(
                rows.transpose(2, 0, 1), window=Window(0, y, width, height)
            )
        except (rasterio.RasterioIOError, OSError) as error:
            raise RasterError(
                str(self.path), f'row {y} cannot be written ({error})'
            ) from error

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            self._dataset.close()
            if kind is None:
                os.replace(self.partial, self.path)
        except (rasterio.RasterioIOError, OSError) as error:
            raise RasterError(
                str(self.path), f'cannot be finished ({error})'
            ) from error
        finally:
            self.partial.unlink(missing_ok=True)


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
