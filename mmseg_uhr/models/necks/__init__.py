"""Necks."""

from .hgn_neck import HGNNeck

__all__ = ['HGNNeck']
