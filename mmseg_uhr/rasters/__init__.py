"""Pixels read and written by rectangle, whatever holds them."""

from .array import ArrayRaster, TensorRaster
from .base import GeoReference, Raster, RasterError
from .file import FileRaster
from .open import RasterLike, as_raster, open_raster
from .scaled import ScaledRaster
from .writer import GeoTIFFWriter, write_geotiff

__all__ = [
    'ArrayRaster',
    'FileRaster',
    'GeoReference',
    'GeoTIFFWriter',
    'Raster',
    'RasterError',
    'RasterLike',
    'ScaledRaster',
    'TensorRaster',
    'as_raster',
    'open_raster',
    'write_geotiff',
]
