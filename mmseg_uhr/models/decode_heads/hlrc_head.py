"""Decode head of HLRC: regions, their tokens and local detail."""

from collections.abc import Sequence

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import normal_init
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import SampleList
from torch import Tensor

from ...registry import MODELS
from ..layers.association import conv3x3_assigned
from ..layers.conventions import BATCH_NORM
from ..layers.experts import RoutedExperts
from ..layers.local_context import FieldEnrichedContext
from ..layers.stripes import stripes_wanted

# Fine positions per side of a region, and regions that one may belong to.
_CELLS = 4
_NEIGHBOURS = 9
# Rows of regions that are mixed at a time while predicting.
_STRIPE = 8


@MODELS.register_module()
class HLRCHead(BaseDecodeHead):
    """Assign semantic tokens to the cells of a fine map, add local detail.

    HLRC (RA-L 2025): the map of regions at 1/16 decides for each of the 4x4
    cells of a region how much it takes of the tokens of the 3x3 regions
    around it; no weight is negative, and they are not normalised. The
    assigned tokens and the local context are decoded at 1/4.

    A side that leaves 1, 2 or 3 pixels when divided by 16 has one region more
    than tokens; the last row or column of tokens is then repeated.

    Args:
        in_channels (Sequence[int]): Channels of the map of regions (1/16), of
            the local maps (1/8, 1/16) and of the tokens (1/16).
        channels (int): Width of the decoder.
        num_experts (int): Association experts.
        top_k (int): Experts per region.
        context_channels (int): Channels of the local context.
        small_init (bool): Start with small weights in the experts (standard
            deviation 0.02) and the decoder, its norm included (0.01), as
            published. It takes the tokens long to be heard then: set False
            for short trainings from scratch.
        local_norm_cfg (dict): Norm of the local context; the authors keep
            plain batch norm there.
        loss_balance (dict, optional): Config of the load-balancing loss, by
            default ``mmseg_uhr.LoadBalanceLoss``.
        in_index (Sequence[int]): Indices of the maps of ``in_channels``.
        dropout_ratio (float): Dropout before the classifier; the authors'
            network has none.
        **kwargs: Arguments of stock ``BaseDecodeHead``.

    Raises:
        ValueError: If ``in_channels`` has not four entries.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (192, 96, 192, 512),
        channels: int = 32,
        *,
        num_experts: int = 16,
        top_k: int = 2,
        context_channels: int = 96,
        small_init: bool = True,
        local_norm_cfg: dict = BATCH_NORM,
        loss_balance: dict | None = None,
        in_index: Sequence[int] = (0, 1, 2, 4),
        dropout_ratio: float = 0.0,
        **kwargs,
    ):
        if len(in_channels) != 4:
            raise ValueError(
                f'HLRCHead in_channels={tuple(in_channels)} has '
                f'{len(in_channels)} entries; give four, for the regions, '
                'the local maps at 1/8 and 1/16, and the tokens'
            )
        super().__init__(
            in_channels,
            channels,
            in_index=in_index,
            input_transform='multiple_select',
            dropout_ratio=dropout_ratio,
            **kwargs,
        )
        self.small_init = small_init
        regions, fine, coarse, tokens = in_channels
        conv = dict(norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        self.region = nn.Sequential(
            DepthwiseSeparableConvModule(
                regions, regions, 3, padding=1, **conv
            ),
            nn.Conv2d(regions, regions, 1),
        )
        self.experts = RoutedExperts(
            regions, _NEIGHBOURS * _CELLS**2, num_experts, top_k, small_init
        )
        self.contexts = nn.ModuleList(
            FieldEnrichedContext(c, local_norm_cfg) for c in (fine, coarse)
        )
        self.compress = nn.Conv2d(fine + coarse, context_channels, 1)
        self.decode = ConvModule(
            tokens + context_channels, self.channels, 3, padding=1, **conv
        )
        self.loss_balance = MODELS.build(
            loss_balance or dict(type='mmseg_uhr.LoadBalanceLoss')
        )

    def init_weights(self) -> None:
        """Initialise as ``small_init`` says."""
        super().init_weights()
        if self.small_init:
            normal_init(self.decode.conv, std=0.01)
            normal_init(self.decode.norm, std=0.01)

    def _associate(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Let experts divide each region among the tokens around it.

        The weights of neighbours outside the grid are not zeroed, since the
        tokens there are.

        Args:
            regions (Tensor): (N, C, h, w).

        Returns:
            tuple[Tensor, Tensor]: Association (N, 9, 4, 4, h, w), and the
            router's probabilities (N * h * w, E).
        """
        query = self.region(regions)
        n, _, h, w = query.shape
        query = query.permute(0, 2, 3, 1).flatten(0, 2)
        weights, probabilities = self.experts(query)
        shape = (n, h, w, _NEIGHBOURS, _CELLS, _CELLS)
        weights = F.relu(weights).view(shape).permute(0, 3, 4, 5, 1, 2)
        return weights, probabilities

    def _local_context(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Enrich and merge the local maps on the finer grid.

        The 1x1 convolution of the concatenation is applied in two parts, so
        that the coarse one is small.

        Args:
            fine (Tensor): (N, C, H / 8, W / 8).
            coarse (Tensor): (N, D, H / 16, W / 16).

        Returns:
            Tensor: (N, context_channels, H / 8, W / 8).
        """
        fine, coarse = (
            context(x) for context, x in zip(self.contexts, (fine, coarse))
        )
        weights = self.compress.weight.split(
            (fine.shape[1], coarse.shape[1]), dim=1
        )
        out = F.conv2d(fine, weights[0], self.compress.bias)
        return out.add_(
            F.interpolate(
                F.conv2d(coarse, weights[1]),
                size=fine.shape[2:],
                mode='bilinear',
                align_corners=False,
            )
        )

    def _decode(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits, and the router's probabilities for the loss."""
        regions, fine, coarse, tokens = self._transform_inputs(inputs)
        association, probabilities = self._associate(regions)
        h, w = regions.shape[2:]
        missing = (0, w - tokens.shape[3], 0, h - tokens.shape[2])
        if any(missing):
            tokens = F.pad(tokens, missing, mode='replicate')
        of_tokens, of_context = self.decode.conv.weight.split(
            (tokens.shape[1], self.compress.out_channels), dim=1
        )
        context = F.interpolate(
            self._local_context(fine, coarse),
            size=(_CELLS * h, _CELLS * w),
            mode='bilinear',
            align_corners=False,
        )
        x = F.conv2d(context, of_context, padding=1)
        del context
        x += conv3x3_assigned(
            tokens,
            association,
            of_tokens,
            _STRIPE if stripes_wanted(self) else None,
        )
        x = self.decode.activate(self.decode.norm(x))
        return self.cls_seg(x), probabilities

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode.

        Args:
            inputs (Sequence[Tensor]): Outputs of the neck.

        Returns:
            Tensor: Logits (N, out_channels, H / 4, W / 4).
        """
        return self._decode(inputs)[0]

    def loss(
        self,
        inputs: Sequence[Tensor],
        batch_data_samples: SampleList,
        train_cfg: dict,
    ) -> dict[str, Tensor]:
        """Segmentation loss and load balance of the experts.

        Args:
            inputs (Sequence[Tensor]): Outputs of the neck.
            batch_data_samples (list[SegDataSample]): Labels (1, H, W).
            train_cfg (dict): Not used.

        Returns:
            dict[str, Tensor]: Losses by name and ``acc_seg``.
        """
        logits, probabilities = self._decode(inputs)
        losses = self.loss_by_feat(logits, batch_data_samples)
        losses[self.loss_balance.loss_name] = self.loss_balance(probabilities)
        return losses
