"""Training head that makes a coarse map remember fine detail."""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.fcn_head import FCNHead
from mmseg.utils import SampleList
from torch import Tensor

from ...registry import MODELS
from ..layers.laplacian import LaplacianPyramid

# Enlargement in front of each convolution of the decoder: 16 in all.
_ENLARGE = (4, 2, 2)


@MODELS.register_module()
class SuperResolutionHead(FCNHead):
    """FCN head on a deep map that also redraws the window's fine detail.

    A decoder enlarges the map sixteen times and predicts the sum of the
    window's Laplacian residuals; the affinity between positions of the map is
    drawn towards that of the decoder's features, whose gradient is stopped
    (ISDNet, CVPR 2022). SGHRQ and HLRC use the same branch. An auxiliary
    head: nothing of it runs at test time.

    Args:
        reduce_channels (int, optional): Width to which a 1x1 convolution
            brings the map for the decoder and the affinity, not for the
            classification. By default they take the map itself.
        decoder_channels (Sequence[int]): Width of the decoder's three
            enlargements.
        image_index (int): Index of the window (N, C, H, W) among the inputs.
        image_channels (int): Channels of the window.
        num_levels (int): Number of Laplacian levels in the target.
        loss_recon (dict): Config of the loss of the residual.
        loss_affinity (dict): Config of the affinity loss.
        **kwargs: Arguments of stock ``FCNHead``. The map is what its
            convolutions make; ``num_convs=0`` takes the input map.
    """

    def __init__(
        self,
        *,
        reduce_channels: int | None = None,
        decoder_channels: Sequence[int] = (64, 64, 128),
        image_index: int = -1,
        image_channels: int = 3,
        num_levels: int = 2,
        loss_recon: dict | None = None,
        loss_affinity: dict | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        conv = dict(
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )
        self.reduce = None
        width = self.channels
        if reduce_channels is not None:
            self.reduce = ConvModule(width, reduce_channels, 1, **conv)
            width = reduce_channels
        self.image_index = image_index
        self.residuals = LaplacianPyramid(num_levels)
        self.sr_decoder = nn.ModuleList()
        for channels in decoder_channels:
            self.sr_decoder.append(
                ConvModule(width, channels, 3, padding=1, **conv)
            )
            width = channels
        narrow = decoder_channels[0]
        self.sr_decoder.append(ConvModule(width, narrow, 3, padding=1, **conv))
        self.sr_image = nn.Conv2d(narrow, image_channels, 1)
        self.loss_recon = MODELS.build(
            loss_recon or dict(type='mmseg_uhr.ReconstructionLoss')
        )
        self.loss_affinity = MODELS.build(
            loss_affinity or dict(type='mmseg_uhr.FeatureAffinityLoss')
        )

    def _target(self, image: Tensor) -> Tensor:
        """Sum the Laplacian residuals of windows (N, C, H, W)."""
        finest, *others = self.residuals(image)
        for level in others:
            finest = finest + F.interpolate(
                level,
                size=image.shape[2:],
                mode='bilinear',
                align_corners=False,
            )
        return finest

    def loss(
        self,
        inputs: Sequence[Tensor],
        batch_data_samples: SampleList,
        train_cfg: dict,
    ) -> dict[str, Tensor]:
        """Losses of the classes, the residual and the affinity.

        Args:
            inputs (Sequence[Tensor]): Outputs of the neck and the window.
            batch_data_samples (list[SegDataSample]): Labels (1, H, W).
            train_cfg (dict): Not used.

        Returns:
            dict[str, Tensor]: Losses by name and ``acc_seg``.

        Raises:
            ValueError: If the input at ``image_index`` is no window.
        """
        image = inputs[self.image_index]
        expected = self.sr_image.out_channels
        if image.shape[1] != expected:
            raise ValueError(
                f'the input at image_index={self.image_index} has '
                f'{image.shape[1]} channels, image_channels is {expected}; '
                'set return_image=True of the encoder, or correct '
                'image_channels'
            )
        feature = self._forward_feature(inputs)
        losses = self.loss_by_feat(self.cls_seg(feature), batch_data_samples)
        if self.reduce is not None:
            feature = self.reduce(feature)
        fine = feature
        *enlarging, last = self.sr_decoder
        for times, conv in zip(_ENLARGE, enlarging, strict=True):
            fine = conv(F.interpolate(fine, scale_factor=times))
        with torch.no_grad():
            target = self._target(image)
        losses[self.loss_recon.loss_name] = self.loss_recon(
            self.sr_image(last(fine)), target
        )
        losses[self.loss_affinity.loss_name] = self.loss_affinity(
            feature, fine
        )
        return losses
