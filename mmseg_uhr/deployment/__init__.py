"""Networks for runtimes without PyTorch."""

from .. import compat
from .quantise import KEEP, QuantisationError, Quantised, quantise_onnx
from .runtime import OnnxSegmentor

if compat.has_stack():
    from .check import Parity, compare, open_session
    from .exporting import ExportError, ExportResult
    from .onnx_export import OPSETS, export_onnx
    from .program_export import Program, export_program
    from .window_network import WindowNetwork
    from .windows import random_windows, read_windows
else:
    __getattr__ = compat.refuse(
        __name__,
        'OPSETS',
        'ExportError',
        'ExportResult',
        'Parity',
        'Program',
        'WindowNetwork',
        'compare',
        'export_onnx',
        'export_program',
        'open_session',
        'random_windows',
        'read_windows',
    )

__all__ = [
    'KEEP',
    'OPSETS',
    'ExportError',
    'ExportResult',
    'OnnxSegmentor',
    'Parity',
    'Program',
    'QuantisationError',
    'Quantised',
    'WindowNetwork',
    'compare',
    'export_onnx',
    'export_program',
    'open_session',
    'quantise_onnx',
    'random_windows',
    'read_windows',
]
