"""The one loop over the tiles of a raster."""

from .batch import WindowBatch
from .loop import stream_rows
from .out_of_memory import WindowTooLargeError
from .rows import FinishedRows, Outputs, decide, label_dtype
from .settings import StreamSettings
from .stages import WriteBehind, prefetch

__all__ = [
    'FinishedRows',
    'Outputs',
    'StreamSettings',
    'WindowBatch',
    'WindowTooLargeError',
    'WriteBehind',
    'decide',
    'label_dtype',
    'prefetch',
    'stream_rows',
]
