"""Pixels read and written by rectangle, whatever holds them."""

from typing import TYPE_CHECKING, Any

from .array import ArrayRaster
from .base import GeoReference, Raster, RasterError
from .copy import write_copy
from .file import FileRaster
from .open import RasterLike, as_raster, open_raster
from .polygons import check_polygon_path, write_polygons
from .row_buffer import RowBuffer
from .scaled import ScaledRaster, ValueRange, parse_value_range
from .scene import SceneLoader
from .writer import GeoTIFFWriter, write_geotiff

if TYPE_CHECKING:
    from .tensor import TensorRaster

__all__ = [
    'ArrayRaster',
    'FileRaster',
    'GeoReference',
    'GeoTIFFWriter',
    'Raster',
    'RasterError',
    'RasterLike',
    'RowBuffer',
    'ScaledRaster',
    'SceneLoader',
    'TensorRaster',
    'ValueRange',
    'as_raster',
    'check_polygon_path',
    'open_raster',
    'parse_value_range',
    'write_copy',
    'write_geotiff',
    'write_polygons',
]


def __getattr__(name: str) -> Any:
    """Import what needs PyTorch once somebody asks for it."""
    if name == 'TensorRaster':
        from .tensor import TensorRaster

        return TensorRaster
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
