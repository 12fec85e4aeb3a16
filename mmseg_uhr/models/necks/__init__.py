"""Necks."""

from .aspp_neck import ASPPNeck
from .context_neck import ContextNeck
from .hgn_neck import HGNNeck
from .isd_neck import ISDNeck
from .uper_neck import UPerNeck

__all__ = [
    'ASPPNeck',
    'ContextNeck',
    'HGNNeck',
    'ISDNeck',
    'UPerNeck',
]
