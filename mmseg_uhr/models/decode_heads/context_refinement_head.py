"""Refining logits by the window's pixels and its context."""

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.utils import SampleList
from torch import Tensor

from ...registry import MODELS
from ..layers.context_fusion import EncodedContext
from ..layers.conventions import BATCH_NORM
from ..layers.correlation import ContextualCorrelation

# Nothing is refined at first.
_INIT = dict(type='Constant', val=0, override=dict(name='conv_seg'))


@MODELS.register_module()
class ContextRefinementHead(BaseDecodeHead):
    """Refine the logits of another head, knowing pixels and context.

    *Our reading* of a step that the abstract of FCtL (ICCV 2021) names, the
    contextual semantics refinement, and that no released code shows: a small
    U-Net takes the probabilities of the coarse head and the window's pixels,
    looks up the context at its bottleneck by the correlation of FCtL, and
    adds a correction to the coarse logits. The correction is zero before
    training.

    Args:
        coarse (dict): Config of the head whose logits are refined, usually
            at 1/4 of the window, as those of ``FPNHead``. Its classes,
            threshold and ``align_corners`` are set here; the weight of its
            own loss is that of its ``loss_decode``.
        in_channels (int): Channels of the context.
        channels (int): Width of all maps of the U-Net.
        context_index (int): Index of the context among the inputs.
        image_index (int): Index of the window (N, C, H, W) among the inputs.
        image_channels (int): Channels of the window.
        norm_cfg (dict): Norm of the U-Net.
        init_cfg (dict): Initialization config; by default the last
            convolution starts at zero.
        **kwargs: Arguments of stock ``BaseDecodeHead``, for the refined
            logits.
    """

    def __init__(
        self,
        coarse: dict,
        in_channels: int,
        channels: int,
        *,
        context_index: int = -2,
        image_index: int = -1,
        image_channels: int = 3,
        norm_cfg: dict = BATCH_NORM,
        init_cfg: dict | list[dict] = _INIT,
        **kwargs,
    ):
        super().__init__(
            in_channels,
            channels,
            in_index=context_index,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.image_index = image_index
        self.image_channels = image_channels
        self.coarse = MODELS.build(
            dict(
                coarse,
                num_classes=self.num_classes,
                out_channels=self.out_channels,
                threshold=self.threshold,
                align_corners=self.align_corners,
            )
        )
        seen = self.out_channels + image_channels
        self.down8 = self._conv(seen, 3, stride=2)
        self.down16 = self._conv(channels, 3, stride=2)
        self.reduce = self._conv(in_channels, 1)
        self.correlation = ContextualCorrelation(channels)
        self.up8 = self._conv(2 * channels, 3)
        self.up4 = self._conv(channels + seen, 3)

    def _conv(self, in_channels: int, size: int, stride: int = 1) -> nn.Module:
        return ConvModule(
            in_channels,
            self.channels,
            size,
            stride=stride,
            padding=size // 2,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )

    def forward(self, inputs: Sequence[Tensor | EncodedContext]) -> Tensor:
        """Predict refined logits.

        Args:
            inputs (Sequence[Tensor | EncodedContext]): Maps of the window for
                the coarse head, the context and the window.

        Returns:
            Tensor: Of the size of the coarse ones, (N, out_channels, h, w).

        Raises:
            ValueError: If there is no context or no window at their indices.
        """
        return self._coarse_and_refined(inputs)[1]

    def loss(
        self,
        inputs: Sequence[Tensor | EncodedContext],
        batch_data_samples: SampleList,
        train_cfg: dict,
    ) -> dict[str, Tensor]:
        """Losses of refined and of coarse logits.

        Args:
            inputs (Sequence[Tensor | EncodedContext]): See :meth:`forward`.
            batch_data_samples (list[SegDataSample]): Labels (1, H, W).
            train_cfg (dict): Not used.

        Returns:
            dict[str, Tensor]: Losses by name and ``acc_seg``; those of the
            coarse logits begin with ``coarse.``.
        """
        coarse, refined = self._coarse_and_refined(inputs)
        losses = self.loss_by_feat(refined, batch_data_samples)
        for name, value in self.coarse.loss_by_feat(
            coarse, batch_data_samples
        ).items():
            losses[f'coarse.{name}'] = value
        return losses

    def _coarse_and_refined(
        self, inputs: Sequence[Tensor | EncodedContext]
    ) -> tuple[Tensor, Tensor]:
        context = self._context(inputs)
        image = self._image(inputs)
        coarse = self.coarse(inputs)
        # A single logit says how likely the second of two classes is.
        single = self.out_channels == 1
        likely = coarse.sigmoid() if single else coarse.softmax(dim=1)
        # Adaptive, for windows that are no multiple of the coarse logits.
        pixels = F.adaptive_avg_pool2d(image, coarse.shape[2:])
        seen = torch.cat((likely, pixels.to(likely)), dim=1)
        fine = self.down8(seen)
        x = self.down16(fine)
        x = x + self.correlation(x, self.reduce(context.features))
        x = self.up8(self._beside(x, fine))
        x = self.up4(self._beside(x, seen))
        return coarse, coarse + self.cls_seg(x)

    def _beside(self, x: Tensor, skip: Tensor) -> Tensor:
        """Enlarge a map to the size of a skip and put them together."""
        x = resize(
            x,
            size=skip.shape[2:],
            mode='bilinear',
            align_corners=self.align_corners,
        )
        return torch.cat((x, skip.to(x)), dim=1)

    def _context(self, inputs: Sequence) -> EncodedContext:
        context = _at(inputs, self.in_index)
        if not isinstance(context, EncodedContext):
            raise ValueError(
                f'the input of ContextRefinementHead at context_index='
                f'{self.in_index} is {_describe(context)}, expected a '
                'context; set hand_on=True of ContextNeck, or correct '
                'context_index'
            )
        found = context.features.shape[1]
        if found != self.in_channels:
            raise ValueError(
                f'the context at context_index={self.in_index} has {found} '
                f'channels, in_channels is {self.in_channels}; make it the '
                'channels of ContextNeck'
            )
        return context

    def _image(self, inputs: Sequence) -> Tensor:
        image = _at(inputs, self.image_index)
        if (
            not isinstance(image, Tensor)
            or image.shape[1] != self.image_channels
        ):
            raise ValueError(
                f'the input of ContextRefinementHead at image_index='
                f'{self.image_index} is {_describe(image)}, expected the '
                f'window of image_channels={self.image_channels}; set '
                'return_image=True of LocalContextEncoder and hand_on=True of '
                'ContextNeck, or correct image_index or image_channels'
            )
        return image


def _at(inputs: Sequence, index: int) -> Tensor | EncodedContext | None:
    """Return an input, or None if there are too few."""
    known = -len(inputs) <= index < len(inputs)
    return inputs[index] if known else None


def _describe(x: Tensor | EncodedContext | None) -> str:
    if x is None:
        return 'missing'
    if isinstance(x, EncodedContext):
        return 'a context'
    return f'a map of {x.shape[1]} channels'
