"""Rasters on a device."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .array import checksum
from .base import Raster, place


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
        return {**super().identity(), 'crc32': checksum(pixels)}

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
