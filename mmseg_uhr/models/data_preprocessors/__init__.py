"""Normalising and stacking of views."""

from .uhr_data_preprocessor import UHRDataPreProcessor

__all__ = ['UHRDataPreProcessor']
