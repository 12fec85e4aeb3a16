"""Parts shared by encoders and heads."""

from .gsag import GSAG
from .laplacian import LaplacianInput, LaplacianPyramid
from .lsag import LSAG

__all__ = ['GSAG', 'LSAG', 'LaplacianInput', 'LaplacianPyramid']
