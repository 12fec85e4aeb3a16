"""Rasters in memory."""

import zlib
from typing import Any

import cv2
import numpy as np

from .base import Raster

# What OpenCV's INTER_AREA takes.
_CV2_MAX_CHANNELS = 4
_CV2_TYPES = ('uint8', 'int16', 'uint16', 'float32', 'float64')


def resize_array(
    pixels: np.ndarray, size: tuple[int, int], resampling: str
) -> np.ndarray:
    """Resize an image.

    Args:
        pixels (np.ndarray): Shape (h, w, bands), of any type; means of
            integers are rounded.
        size (tuple[int]): ``(h, w)`` in pixels.
        resampling (str): ``'area'`` (bilinear where it enlarges) or
            ``'nearest'``.

    Returns:
        np.ndarray: Shape (*size, bands).
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    if resampling == 'nearest':
        # Pixel centres, as GDAL picks them; cv2.INTER_NEAREST does not.
        rows, columns = (
            ((np.arange(out) + 0.5) * (full / out)).astype(np.int64)
            for out, full in zip(size, pixels.shape[:2], strict=True)
        )
        return pixels[rows[:, None], columns]
    if pixels.dtype.name not in _CV2_TYPES:
        means = resize_array(pixels.astype(np.float64), size, resampling)
        exact = means if pixels.dtype.kind == 'f' else np.rint(means)
        return exact.astype(pixels.dtype)
    shrinks = size[0] * size[1] < pixels.shape[0] * pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    bands = [
        cv2.resize(
            np.ascontiguousarray(pixels[..., i : i + _CV2_MAX_CHANNELS]),
            (size[1], size[0]),
            interpolation=method,
        ).reshape(*size, -1)
        for i in range(0, pixels.shape[2], _CV2_MAX_CHANNELS)
    ]
    return bands[0] if len(bands) == 1 else np.concatenate(bands, axis=2)


def checksum(array: np.ndarray) -> int:
    """Return the CRC-32 of an array's values, taken row by row."""
    found = 0
    for row in array:
        found = zlib.crc32(np.ascontiguousarray(row), found)
    return found


class ArrayRaster(Raster):
    """An array that is read by window.

    Args:
        array (np.ndarray): Shape (H, W) or (H, W, bands).
        name (str): What to call it in messages.
    """

    in_memory = True

    def __init__(self, array: np.ndarray, name: str = '<array>') -> None:
        if array.ndim not in (2, 3):
            raise ValueError(
                f'{name}: expected an array of shape (H, W) or (H, W, bands), '
                f'found {array.shape}'
            )
        self.name = name
        self.array = array if array.ndim == 3 else array[..., None]
        self.shape = self.array.shape[:2]
        self.bands = self.array.shape[2]
        self.dtype = self.array.dtype

    def identity(self) -> dict[str, Any]:
        """Tell what a result depends on, see :meth:`Raster.identity`."""
        return {**super().identity(), 'crc32': checksum(self.array)}

    def _read(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        y, x, h, w = window
        return resize_array(self.array[y : y + h, x : x + w], size, resampling)
