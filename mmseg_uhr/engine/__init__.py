"""Parts of the training and testing loops."""

from . import hooks

__all__ = ['hooks']
