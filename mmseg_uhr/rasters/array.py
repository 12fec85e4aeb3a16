"""Rasters in memory."""

import zlib
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Raster, place

# OpenCV's INTER_AREA takes at most 4 channels and no 64-bit or bool values.
_CV2_MAX_CHANNELS = 4


def resize_array(
    pixels: np.ndarray, size: tuple[int, int], resampling: str
) -> np.ndarray:
    """Resize an image.

    Args:
        pixels (np.ndarray): Shape (h, w, bands).
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


def _checksum(array: np.ndarray) -> int:
    """Return the checksum of an array's values, a row at a time."""
    checksum = 0
    for row in array:
        checksum = zlib.crc32(np.ascontiguousarray(row), checksum)
    return checksum


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
        return {**super().identity(), 'crc32': _checksum(self.array)}

    def _read(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        y, x, h, w = window
        return resize_array(self.array[y : y + h, x : x + w], size, resampling)


class TensorRaster(Raster):
    """A tensor that is read by window, on the device where it is.

    Args:
        tensor (Tensor): Shape (bands, H, W).
        name (str): What to call it in messages.
    """

    in_memory = True

    def __init__(self, tensor: Tensor, name: str = '<tensor>') -> None:
        if tensor.ndim != 3:
            raise ValueError(
                f'{name}: expected a tensor of shape (bands, H, W), found '
                f'{tuple(tensor.shape)}'
            )
        self.name = name
        self.tensor = tensor
        self.bands, *shape = tensor.shape
        self.shape = tuple(shape)
        self.dtype = torch.empty((), dtype=tensor.dtype).numpy().dtype

    def identity(self) -> dict[str, Any]:
        """Tell what a result depends on, see :meth:`Raster.identity`."""
        pixels = self.tensor.detach().cpu().numpy()
        return {**super().identity(), 'crc32': _checksum(pixels)}

    def read_tensor(
        self,
        window: tuple[int, int, int, int] | None = None,
        size: tuple[int, int] | None = None,
        resampling: str = 'area',
        fill: float = 0,
    ) -> Tensor:
        """Read without leaving the device, see :meth:`Raster.read_tensor`."""
        window, size = self._check(window, size, resampling)
        if resampling == 'pillow':
            # The same filter; torch has it for tensors on any device.
            pixels = self.read_tensor(window, fill=fill)
            return self._resize(pixels, size, resampling)
        placement = place(window, self.shape, size)
        if placement is None:
            return self.tensor.new_full((self.bands, *size), fill)
        y, x, h, w = placement.inside
        pixels = self.tensor[:, y : y + h, x : x + w]
        y, x, h, w = placement.box
        if pixels.shape[1:] != (h, w):
            pixels = self._resize(pixels, (h, w), resampling)
        if (h, w) == size:
            return pixels
        right, bottom = size[1] - x - w, size[0] - y - h
        return F.pad(pixels, (x, right, y, bottom), value=fill)

    @staticmethod
    def _resize(
        pixels: Tensor, size: tuple[int, int], resampling: str
    ) -> Tensor:
        """Resize a (bands, h, w) tensor of any type."""
        if resampling == 'nearest':
            mode = {'mode': 'nearest-exact'}
        else:
            mode = {'mode': 'bilinear', 'antialias': True}
        resized = F.interpolate(pixels[None].float(), size, **mode)[0]
        if not pixels.is_floating_point():
            resized = resized.round()
        return resized.to(pixels.dtype)

    def _read(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        pixels = self.read_tensor(window, size, resampling)
        return pixels.permute(1, 2, 0).cpu().numpy()
