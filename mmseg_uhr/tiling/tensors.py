"""What the loop asks of PyTorch's tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .arrays import ArrayOperations


class TensorOperations(ArrayOperations):
    """Operations on PyTorch's tensors, on any device.

    They do what those of :class:`~mmseg_uhr.tiling.arrays.ArrayOperations`
    do to arrays.
    """

    module = torch

    def zeros(
        self, size: tuple[int, ...], like: Tensor, dtype: str, host: bool
    ) -> Tensor:
        """Make a tensor of zeros."""
        chosen = getattr(torch, dtype)
        if torch.finfo(like.dtype).bits > 32:
            chosen = like.dtype
        device = torch.device('cpu') if host else like.device
        try:
            return torch.zeros(size, dtype=chosen, device=device)
        except torch.cuda.OutOfMemoryError:
            return torch.zeros(size, dtype=chosen)

    def on_host(self, values: Tensor) -> bool:
        """Tell whether a tensor is in host memory."""
        return values.device.type == 'cpu'

    def to_host(self, values: Tensor) -> Tensor:
        """Bring a tensor to host memory."""
        return values.cpu()

    def converted(self, values: Tensor, like: Tensor) -> Tensor:
        """Give a tensor the type and the device of another."""
        return values.to(like)

    def placed(self, values: Tensor, like: Tensor) -> Tensor:
        """Bring a tensor to the device of another."""
        return values.to(like.device)

    def add_product(
        self, sums: Tensor, values: Tensor, weights: Tensor
    ) -> None:
        """Add ``values * weights`` to ``sums`` in place."""
        sums.addcmul_(values, weights)

    def fill(self, values: Tensor, where: Tensor, value: int) -> None:
        """Set values to a number in place, where a mask says so."""
        values.masked_fill_(where, value)

    def float32(self, values: Tensor) -> Tensor:
        """Give a tensor single precision."""
        return values.float()

    def sigmoid(self, values: Tensor) -> Tensor:
        """Return ``1 / (1 + exp(-values))``."""
        return values.sigmoid()

    def softmax(self, logits: Tensor) -> Tensor:
        """Return the softmax over the first axis."""
        return logits.softmax(dim=0)

    def chosen(self, values: Tensor, index: Tensor) -> Tensor:
        """Take of values (C, h, w) those that an index (h, w) names."""
        return values.gather(0, index[None].long())[0]

    def as_bytes(self, values: Tensor) -> Tensor:
        """Store values from 0 to 1 in a byte each."""
        return (values * 255).round_().to(torch.uint8)

    def resized(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize maps (n, C, h, w) bilinearly."""
        return F.interpolate(
            maps, size=size, mode='bilinear', align_corners=False
        )

    def as_sum(self, values: Tensor) -> Tensor:
        """Copy a tensor to which others will be added."""
        dtype = torch.promote_types(values.dtype, torch.float32)
        return values.to(dtype, copy=True)


TENSORS = TensorOperations()
