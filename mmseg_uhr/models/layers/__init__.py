"""Parts shared by encoders and heads."""

from .checkpointing import checkpoint_modules
from .class_memory import ClassMemory
from .context_fusion import ContextFusion, EncodedContext
from .coordinate_query import CoordinateQuery
from .correlation import ContextualCorrelation
from .gsag import GSAG
from .laplacian import LaplacianInput, LaplacianPyramid
from .local_enhancement import LocalEnhancement
from .lsag import LSAG
from .raf import RelationAwareFusion

__all__ = [
    'ClassMemory',
    'ContextFusion',
    'ContextualCorrelation',
    'CoordinateQuery',
    'EncodedContext',
    'GSAG',
    'LSAG',
    'LaplacianInput',
    'LaplacianPyramid',
    'LocalEnhancement',
    'RelationAwareFusion',
    'checkpoint_modules',
]
