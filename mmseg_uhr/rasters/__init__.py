"""Pixels read and written by rectangle, whatever holds them."""

from .array import ArrayRaster, TensorRaster
from .base import GeoReference, Raster, RasterError
from .copy import write_copy
from .file import FileRaster
from .open import RasterLike, as_raster, open_raster
from .polygons import check_polygon_path, write_polygons
from .row_buffer import RowBuffer
from .scaled import ScaledRaster, ValueRange, parse_value_range
from .writer import GeoTIFFWriter, write_geotiff

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
