"""Rows of a raster that are read once, from the top down."""

import numpy as np

from .array import resize_array
from .base import Raster
from .limits import check_rows

# Reads of fewer rows cost more calls than pixels.
_CHUNK = 64


class RowBuffer(Raster):
    """Serves windows of a raster from rows that are read once.

    Windows must come roughly from the top down, as those of a tile plan do.
    The rows of the last ones are held, in full width and in the raster's
    type; a window below them lets whole blocks of rows follow, the first
    window wherever it lies. So every block of a file is decoded once, and
    formats without random access (PNG, JPEG) are decoded in sequence, in
    memory that does not depend on their height. Windows that cannot be served
    this way are read from the raster; which way a view is resized never
    depends on what is held, so results do not either.

    Not for several threads at a time. What it returns are copies.

    Args:
        raster (Raster): What to read.
        height (int): Rows that the highest window has, pixels. That many and
            two chunks of whole blocks are held at most.
    """

    def __init__(self, raster: Raster, height: int) -> None:
        self.raster = raster
        self.height = height
        self.name, self.shape = raster.name, raster.shape
        self.bands, self.dtype = raster.bands, raster.dtype
        self.georef, self.has_mask = raster.georef, raster.has_mask
        self.block_height = raster.block_height
        self.has_overviews = raster.has_overviews
        # Whole blocks.
        self._chunk = -(-_CHUNK // self.block_height) * self.block_height
        self._capacity = min(height + self._chunk, self.shape[0])
        # Row y lives at y % capacity; [first, end) are held, read from
        # start on.
        self._pixels: np.ndarray | None = None
        self._mask: np.ndarray | None = None
        self._start = self._first = self._end = 0

    def read_mask(
        self, window: tuple[int, int, int, int]
    ) -> np.ndarray | None:
        """Tell which pixels have data, see :meth:`Raster.read_mask`."""
        if not self.has_mask:
            return None
        if not self._hold(window):
            return self.raster.read_mask(window)
        mask = self._take(self._mask, window)[0]
        return None if mask.all() else mask

    def _read(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        if tuple(window[2:]) == tuple(size):
            return self._read_pixels(window)
        # GDAL averages without pixels that have no data, and reads overviews.
        shrinks = 2 * size[0] <= window[2] and 2 * size[1] <= window[3]
        if self.has_mask or (self.has_overviews and shrinks):
            return self.raster._read(window, size, resampling)
        if window[2] > self.height:
            return self.raster._read(window, size, resampling)
        return resize_array(self._read_pixels(window), size, resampling)

    def _missing(self, pixels: np.ndarray) -> np.ndarray | None:
        return self.raster._missing(pixels)

    def _read_pixels(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """Read a window as it is, shape (h, w, bands)."""
        if not self._hold(window):
            return self.raster._read(window, window[2:], 'nearest')
        return self._take(self._pixels, window).transpose(1, 2, 0)

    def _hold(self, window: tuple[int, int, int, int]) -> bool:
        """Read on until the rows of a window are held; False if they left."""
        y, _, h, _ = window
        if h > self.height:
            return False
        if self._pixels is None:
            width = self.shape[1]
            row = width * self.bands * self.dtype.itemsize
            check_rows(self.name, self._capacity, self._capacity * row)
            self._pixels = np.empty(
                (self.bands, self._capacity, width), self.dtype
            )
            if self.has_mask:
                self._mask = np.empty((1, self._capacity, width), bool)
            self._start_at(y)
        if y < self._first:
            # A view may begin above the window that came first; it comes
            # before anything is dropped.
            if self._first > self._start:
                return False
            self._start_at(y)
        elif y >= self._end + self.block_height:
            # Rows that no window asks for need not be decoded.
            self._start_at(y)
        while self._end < y + h:
            self._read_chunk()
        return True

    def _start_at(self, y: int) -> None:
        """Drop all rows; the block of row y is read next."""
        y = y // self.block_height * self.block_height
        self._start = self._first = self._end = y

    def _read_chunk(self) -> None:
        """Read the rows that follow, in place of the uppermost ones."""
        begin = self._end
        end = min((begin // self._chunk + 1) * self._chunk, self.shape[0])
        pixels, mask = self.raster._read_rows(begin, end - begin)
        for rows, ring_rows in self._pieces(begin, end - begin):
            self._pixels[:, ring_rows] = pixels[rows].transpose(2, 0, 1)
            if self._mask is not None:
                self._mask[0, ring_rows] = True if mask is None else mask[rows]
        self._end = end
        self._first = max(self._first, end - self._capacity)

    def _take(
        self, ring: np.ndarray, window: tuple[int, int, int, int]
    ) -> np.ndarray:
        """Copy a window of held rows, shape (n, h, w)."""
        y, x, h, w = window
        taken = np.empty((len(ring), h, w), ring.dtype)
        for rows, ring_rows in self._pieces(y, h):
            taken[:, rows] = ring[:, ring_rows, x : x + w]
        return taken

    def _pieces(self, y: int, height: int) -> list[tuple[slice, slice]]:
        """Pair rows from row y on with where they live, in up to two parts."""
        start = y % self._capacity
        until = min(height, self._capacity - start)
        return [
            (slice(0, until), slice(start, start + until)),
            (slice(until, height), slice(0, height - until)),
        ]
