"""The one loop over the tiles of a raster."""

from .labels import decide
from .loop import StreamSettings, WindowBatch, stream_labels

__all__ = ['StreamSettings', 'WindowBatch', 'decide', 'stream_labels']
