"""Networks for runtimes without PyTorch."""

from .check import Parity, compare, open_session
from .onnx_export import OPSETS, ExportError, ExportResult, export_onnx
from .window_network import WindowNetwork
from .windows import random_windows, read_windows

__all__ = [
    'OPSETS',
    'ExportError',
    'ExportResult',
    'Parity',
    'WindowNetwork',
    'compare',
    'export_onnx',
    'open_session',
    'random_windows',
    'read_windows',
]
