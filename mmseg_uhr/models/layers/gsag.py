"""Global structure aggregated grafting (GSAG)."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from .conventions import BATCH_NORM, RELU

_ZERO_OUT = dict(type='Constant', val=0, bias=0, override=dict(name='out'))
_AGGREGATES = ('descriptors', 'exact', 'grid', 'gap')


@MODELS.register_module()
class GSAG(BaseModule):
    """Graft the structure of a whole shallow map onto a small deep map.

    The shallow map is summarised as tokens, every deep position reads them by
    multi-head attention, and the result is added to the deep map. The last
    convolution starts at zero, so that the graft is the identity at first and
    pretrained deep weights are not disturbed. Time and memory are linear in
    the number of shallow and of deep positions.

    Only the name and the purpose are known from HGN's abstract (Liu et al.,
    IEEE TMM 27, 2025); the layers are this project's reading of it.

    Args:
        deep_channels (int): Channels of the deep map.
        shallow_channels (int): Channels of the shallow map.
        channels (int): Width of tokens and queries.
        num_heads (int): Attention heads; divides ``channels``.
        aggregate (str): How the shallow map becomes tokens:
            ``'descriptors'`` (``num_descriptors`` learnt, image-wide weighted
            means), ``'exact'`` (every position is a token), ``'grid'``
            (means over a square grid of ``num_descriptors`` cells) or
            ``'gap'`` (one global mean that gates the channels of the deep
            map, like squeeze-and-excitation).
        num_descriptors (int): Number of tokens of ``'descriptors'`` and
            ``'grid'``.
        norm_cfg (dict): Norm of the shallow projection.
        act_cfg (dict): Activation of the shallow projection.
        init_cfg (dict, optional): Initialization config. The default keeps
            the last convolution at zero.

    Raises:
        ValueError: If an option is unknown or does not fit the others.
    """

    def __init__(
        self,
        deep_channels: int,
        shallow_channels: int,
        channels: int = 128,
        num_heads: int = 4,
        aggregate: str = 'descriptors',
        num_descriptors: int = 64,
        norm_cfg: dict = BATCH_NORM,
        act_cfg: dict = RELU,
        init_cfg: dict | list[dict] | None = _ZERO_OUT,
    ):
        super().__init__(init_cfg)
        if aggregate not in _AGGREGATES:
            raise ValueError(
                f'GSAG aggregate={aggregate!r} is unknown; choose one of '
                f'{_AGGREGATES}'
            )
        if channels % num_heads:
            raise ValueError(
                f'GSAG channels={channels} cannot be split into '
                f'num_heads={num_heads}'
            )
        self.grid = math.isqrt(num_descriptors)
        if aggregate == 'grid' and self.grid**2 != num_descriptors:
            raise ValueError(
                f'GSAG aggregate="grid" needs a square number of cells, got '
                f'num_descriptors={num_descriptors}; take e.g. {self.grid**2}'
            )
        self.aggregate = aggregate
        self.num_heads = num_heads

        self.project = ConvModule(
            shallow_channels, channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg
        )
        self.structure = nn.Conv2d(
            channels, channels, 3, padding=1, groups=channels
        )
        if aggregate == 'descriptors':
            self.assign = nn.Conv2d(channels, num_descriptors, 1)
        self.norm_token = nn.LayerNorm(channels)
        width = channels if aggregate == 'gap' else 2 * channels
        self.token = nn.Linear(channels, width)
        self.query = nn.Conv2d(deep_channels, channels, 1)
        self.norm_query = nn.LayerNorm(channels)
        self.out = nn.Conv2d(channels, deep_channels, 1)
        # Also without a call of init_weights the graft starts as identity.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _tokens(self, shallow: Tensor) -> Tensor:
        """Summarise the shallow map.

        Args:
            shallow (Tensor): (N, channels, H, W).

        Returns:
            Tensor: (N, tokens, channels).
        """
        if self.aggregate == 'gap':
            return shallow.mean(dim=(2, 3))[:, None]
        if self.aggregate == 'grid':
            shallow = F.adaptive_avg_pool2d(shallow, self.grid)
        positions = shallow.flatten(2).transpose(1, 2)
        if self.aggregate == 'descriptors':
            weights = self.assign(shallow).flatten(2).softmax(dim=-1)
            return torch.bmm(weights.to(positions.dtype), positions)
        return positions

    def _split_heads(self, x: Tensor) -> Tensor:
        """(N, L, channels) -> (N, heads, L, channels / heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """Graft.

        Args:
            deep (Tensor): (N, deep_channels, h, w).
            shallow (Tensor): (N, shallow_channels, H, W) of the same images.

        Returns:
            Tensor: (N, deep_channels, h, w).
        """
        shallow = self.project(shallow)
        shallow = shallow + self.structure(shallow)
        tokens = self.token(self.norm_token(self._tokens(shallow)))
        query = self.query(deep).flatten(2).transpose(1, 2)
        query = self.norm_query(query)
        if self.aggregate == 'gap':
            read = query * tokens.sigmoid()
        else:
            key, value = tokens.chunk(2, dim=-1)
            read = F.scaled_dot_product_attention(
                *map(self._split_heads, (query.to(key.dtype), key, value))
            )
            read = read.transpose(1, 2).flatten(2)
        read = read.transpose(1, 2).unflatten(2, deep.shape[2:])
        return deep + self.out(read)
