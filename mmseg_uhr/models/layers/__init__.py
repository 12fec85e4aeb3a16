"""Parts shared by encoders and heads."""

from .class_memory import ClassMemory
from .coordinate_query import CoordinateQuery
from .gsag import GSAG
from .laplacian import LaplacianInput, LaplacianPyramid
from .lsag import LSAG
from .raf import RelationAwareFusion

__all__ = [
    'ClassMemory',
    'CoordinateQuery',
    'GSAG',
    'LSAG',
    'LaplacianInput',
    'LaplacianPyramid',
    'RelationAwareFusion',
]
