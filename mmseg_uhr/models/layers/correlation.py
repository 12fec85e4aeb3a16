"""Attention of a window's features to those of one of its contexts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS


@dataclass(frozen=True)
class TokenGrid:
    """Where the positions of a map lie in the view it was made of.

    Args:
        stride (float, optional): Pixels from position to position; by default
            the positions divide the view evenly.
        offset (float): Pixel whose centre is that of the first position.
        side (Sequence[int], optional): ``(h, w)`` of the view in pixels;
            needed with ``stride``.

    Raises:
        ValueError: If only one of stride and side is given.
    """

    stride: float | None = None
    offset: float = 0.0
    side: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if (self.stride is None) != (self.side is None):
            raise ValueError(
                f'{self}: give both stride and side, in pixels, or neither '
                'for positions that divide the view evenly'
            )

    def fractions(self, length: int, axis: int, like: Tensor) -> Tensor:
        """Return the centres of a map's rows or columns.

        Args:
            length (int): Rows or columns of the map.
            axis (int): 0 for rows, 1 for columns.
            like (Tensor): Tells device and type.

        Returns:
            Tensor: Fractions of the view's side, (length,); outside of 0 to 1
            where a map covers padding.
        """
        index = torch.arange(length, device=like.device, dtype=like.dtype)
        if self.stride is None:
            return (index + 0.5) / length
        return (index * self.stride + self.offset + 0.5) / self.side[axis]

    def indices(self, fractions: Tensor, length: int, axis: int) -> Tensor:
        """Invert :meth:`fractions`; the results lie between positions."""
        if self.stride is None:
            return fractions * length - 0.5
        pixels = fractions * self.side[axis] - 0.5
        return (pixels - self.offset) / self.stride


class RelativePosition(nn.Module):
    """How much a position of a context matters because of where it lies.

    Logits ``a dy + b dx + c (dy^2 + dx^2)`` of the offset ``(dy, dx)`` from a
    position of the window to one of the context, in window sides. A gate
    ``sigmoid(g)`` mixes their soft-max with that of the content. Our reading
    of the gated positional encoding of LCF-ALE (IJCV 2024).

    Args:
        slope (float): Start of ``-c``: how fast attention falls with
            distance.
        gate (float): Start of ``g``.
    """

    def __init__(self, slope: float = 1.0, gate: float = -4.0):
        super().__init__()
        self.linear = nn.Parameter(torch.zeros(2))
        self.square = nn.Parameter(torch.tensor([-float(slope)]))
        self.gate = nn.Parameter(torch.tensor([float(gate)]))

    def attend(self, values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Average a context's values by position.

        The logits are a sum over the axes, so their soft-max over all
        positions is the product of those over rows and over columns: no map
        of all pairs is needed.

        Args:
            values (Tensor): (N, C, h', w').
            rows (Tensor): Vertical offsets (N or 1, h, h').
            columns (Tensor): Horizontal offsets (N or 1, w, w').

        Returns:
            Tensor: (N, C, h, w).
        """
        vertical, horizontal = (
            (slope * offset + self.square * offset**2).softmax(dim=-1)
            for slope, offset in zip(self.linear, (rows, columns))
        )
        values = torch.matmul(vertical.unsqueeze(1), values)
        return torch.matmul(values, horizontal.unsqueeze(1).mT)


@MODELS.register_module()
class ContextualCorrelation(BaseModule):
    """Let each position of a window read from all positions of a context.

    ``gamma V softmax(Q^T K)`` with queries of the window, keys and values of
    the context, without scaling (locality-aware contextual correlation,
    FCtL, ICCV 2021). ``gamma`` starts at zero. No map of all pairs of
    positions is stored, neither for the gradient. The products reach
    magnitudes that overflow half precision, so everything is computed in
    float32, also under autocast.

    Args:
        channels (int): Channels of both maps.
        center (bool): Whether to subtract from queries and keys their means
            over the positions, as the authors' DeepGlobe network does.
        position (dict, optional): Arguments of :class:`RelativePosition` that
            mixes attention by position into that by content.
        init_cfg (dict, optional): Initialization config; by default normal
            weights of standard deviation 0.01.
    """

    def __init__(
        self,
        channels: int,
        center: bool = False,
        position: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        if init_cfg is None:
            init_cfg = dict(type='Normal', layer='Conv2d', std=0.01)
        super().__init__(init_cfg)
        self.center = center
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.position = (
            None if position is None else RelativePosition(**position)
        )

    def queries_and_keys(
        self, local: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Project both maps.

        Args:
            local (Tensor): (N, C, h, w).
            context (Tensor): (N or 1, C, h', w').

        Returns:
            tuple[Tensor, Tensor]: Queries (N, h w, C) and keys (N or 1,
            h' w', C), whose products are the logits.
        """
        query, key = _tokens(self.query(local)), _tokens(self.key(context))
        if self.center:
            query = query - query.mean(dim=1, keepdim=True)
            key = key - key.mean(dim=1, keepdim=True)
        return query, key

    def forward(
        self,
        local: Tensor,
        context: Tensor,
        offsets: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Read from a context.

        Args:
            local (Tensor): Features of windows (N, C, h, w).
            context (Tensor): Features of a context (N, C, h', w'); of batch 1
                if the windows share it.
            offsets (tuple[Tensor, Tensor], optional): Offsets from the
                positions of the window to those of the context, in window
                sides: rows (N or 1, h, h') and columns (N or 1, w, w').
                Needed with ``position``.

        Returns:
            Tensor: What was read, at least float32 (N, C, h, w).
        """
        with torch.autocast(local.device.type, enabled=False):
            dtype = torch.promote_types(local.dtype, torch.float32)
            local, context = local.to(dtype), context.to(dtype)
            query, key = self.queries_and_keys(local, context)
            value = self.value(context)
            size = (query.shape[0], -1, -1)
            # A head of its own: the kernels that store no map need four
            # dimensions and dense rows.
            read = F.scaled_dot_product_attention(
                query.unsqueeze(1),
                key.expand(size).unsqueeze(1),
                _tokens(value).expand(size).unsqueeze(1),
                scale=1.0,
            )
            read = read.squeeze(1).mT.reshape(local.shape)
            if self.position is not None:
                near = self.position.attend(value, *offsets)
                read = torch.lerp(read, near, self.position.gate.sigmoid())
            return self.gamma * read


def _tokens(x: Tensor) -> Tensor:
    """Turn a map (N, C, h, w) into dense rows (N, h w, C)."""
    return x.flatten(2).mT.contiguous()
