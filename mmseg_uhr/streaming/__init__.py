"""The one loop over the tiles of a raster."""

from .batch import WindowBatch
from .labels import decide
from .loop import StreamSettings, stream_labels
from .out_of_memory import WindowTooLargeError

__all__ = [
    'StreamSettings',
    'WindowBatch',
    'WindowTooLargeError',
    'decide',
    'stream_labels',
]
