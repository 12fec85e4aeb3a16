"""Colours and sizes of pictures."""

from .colours import IGNORE_COLOUR, colour_labels, fit_size

__all__ = ['IGNORE_COLOUR', 'colour_labels', 'fit_size']
