"""Attention whose cost grows linearly with the number of positions."""

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from torch import Tensor

# Of the EfficientViT paper's code: keeps a position whose query is zero at 0.
_EPS = 1e-15


def linear_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with ReLU features in place of the soft-max.

    ``out_n = q_n (sum_m k_m v_m) / (q_n sum_m k_m)`` with ``q`` and ``k``
    behind a ReLU; the sum over positions comes first, so that no matrix of
    positions by positions exists. Section 3.1 of EfficientViT (ICCV 2023).

    Args:
        query (Tensor): (B, d, P), d channels at P positions.
        key (Tensor): (B, d, P).
        value (Tensor): (B, d, P).

    Returns:
        Tensor: (B, d, P).
    """
    query, key = query.relu(), key.relu()
    read = torch.bmm(torch.bmm(value, key.transpose(1, 2)), query)
    total = torch.bmm(key.sum(dim=2, keepdim=True).transpose(1, 2), query)
    return read / (total + _EPS)


class MultiScaleLinearAttention(nn.Module):
    """Linear attention over the tokens and over 5x5 aggregates of them.

    The multi-scale module of EfficientViT (ICCV 2023, section 3.1): queries,
    keys and values of ``channels / dim`` heads, and the same number of heads
    on their 5x5 neighbourhood means. The sums run over all positions of a
    map, hence float32 also under autocast.

    Args:
        channels (int): Input and output channels.
        dim (int): Channels of a head; divides ``channels``.
        norm_cfg (dict): Norm of the output projection.

    Raises:
        ValueError: If ``dim`` does not divide ``channels``.
    """

    def __init__(self, channels: int, dim: int, norm_cfg: dict):
        super().__init__()
        if channels % dim:
            raise ValueError(
                f'EfficientViT dim={dim} does not divide the {channels} '
                'channels of an attention stage; change dim or widths'
            )
        self.dim = dim
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.aggregate = nn.Sequential(
            nn.Conv2d(
                3 * channels,
                3 * channels,
                5,
                padding=2,
                groups=3 * channels,
                bias=False,
            ),
            nn.Conv2d(
                3 * channels,
                3 * channels,
                1,
                groups=3 * channels // dim,
                bias=False,
            ),
        )
        self.project = ConvModule(
            2 * channels, channels, 1, norm_cfg=norm_cfg, act_cfg=None
        )

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attend within each head.

        Args:
            qkv (Tensor): (N, 3 * channels, H, W), head after head, in each
                the query, the key and the value.

        Returns:
            Tensor: (N, channels, H, W).
        """
        n, channels, h, w = qkv.shape
        heads = qkv.reshape(-1, 3, self.dim, h * w)
        with torch.autocast(qkv.device.type, enabled=False):
            dtype = torch.promote_types(qkv.dtype, torch.float32)
            out = linear_attention(*heads.to(dtype).unbind(dim=1))
        return out.to(qkv.dtype).reshape(n, channels // 3, h, w)

    def forward(self, x: Tensor) -> Tensor:
        """Attend; (N, channels, H, W) to the same shape."""
        qkv = self.qkv(x)
        both = [self._attend(qkv), self._attend(self.aggregate(qkv))]
        return self.project(torch.cat(both, dim=1))
