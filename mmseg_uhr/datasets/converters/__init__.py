"""From official downloads to what the data sets of this package read."""

from .decoding import Colours, Decoder, Values
from .engine import convert
from .grids import Mosaic, Polygons
from .own import convert_own
from .report import summary
from .sets import DATA_SETS
from .spec import ConversionError, DataSetSpec

__all__ = [
    'DATA_SETS',
    'Colours',
    'ConversionError',
    'DataSetSpec',
    'Decoder',
    'Mosaic',
    'Polygons',
    'Values',
    'convert',
    'convert_own',
    'summary',
]
