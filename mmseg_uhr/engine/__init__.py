"""Parts of the training and testing loops."""

from . import hooks, strategies

__all__ = ['hooks', 'strategies']
