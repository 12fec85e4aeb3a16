"""Stock segmentors whose prediction memory does not grow with the image."""

from typing import Any

import torch
from mmseg.models import (
    CascadeEncoderDecoder,
    EncoderDecoder,
    MultimodalEncoderDecoder,
)
from mmseg.models.decode_heads.cascade_decode_head import (
    BaseCascadeDecodeHead,
)
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from ...registry import MODELS
from .streaming_segmentor import StreamingSegmentor


@MODELS.register_module()
class UHREncoderDecoder(StreamingSegmentor, EncoderDecoder):
    """Stock ``EncoderDecoder`` that can also stream.

    Takes the arguments of :class:`mmseg.models.EncoderDecoder` and ``views``,
    and has its state-dict keys, so any stock config and checkpoint works
    after a change of the ``type``. See :class:`StreamingSegmentor`.
    """

    def encode_decode(
        self, inputs: Tensor, batch_img_metas: list[dict]
    ) -> Tensor:
        """Predict the logits of windows.

        Args:
            inputs (Tensor | dict[str, Tensor]): Preprocessed windows
                (N, C, H, W), by view if there are several.
            batch_img_metas (list[dict]): Their metainfo, ``img_shape``.

        Returns:
            Tensor: Logits (N, classes, H, W).
        """
        inputs = self.with_boxes(inputs, batch_img_metas)
        head = self.decode_head
        if type(head).predict is not BaseDecodeHead.predict:
            return super().encode_decode(inputs, batch_img_metas)
        # What stock does, without its features while logits are enlarged.
        logits = head(self.extract_feat(inputs))
        return _enlarge(head, logits, batch_img_metas)


@MODELS.register_module()
class UHRCascadeEncoderDecoder(StreamingSegmentor, CascadeEncoderDecoder):
    """Stock ``CascadeEncoderDecoder`` (OCRNet, PointRend) that can stream.

    Takes the arguments of :class:`mmseg.models.CascadeEncoderDecoder` and
    ``views``, and has its state-dict keys. See :class:`StreamingSegmentor`.
    """

    def _init_decode_head(self, decode_head: Any) -> None:
        super()._init_decode_head(decode_head)
        # Where stock looks for it once a binary model has one channel.
        self.decode_head.threshold = self.decode_head[-1].threshold

    def encode_decode(
        self, inputs: Tensor, batch_img_metas: list[dict]
    ) -> Tensor:
        """Predict the logits of windows.

        Args:
            inputs (Tensor | dict[str, Tensor]): Preprocessed windows
                (N, C, H, W), by view if there are several.
            batch_img_metas (list[dict]): Their metainfo, ``img_shape``.

        Returns:
            Tensor: Logits (N, classes, H, W).
        """
        inputs = self.with_boxes(inputs, batch_img_metas)
        head = self.decode_head[-1]
        if type(head).predict is not BaseCascadeDecodeHead.predict:
            return super().encode_decode(inputs, batch_img_metas)
        # What stock does, without its features while logits are enlarged.
        return _enlarge(head, self._forward(inputs), batch_img_metas)


@MODELS.register_module()
class UHRMultimodalEncoderDecoder(
    StreamingSegmentor, MultimodalEncoderDecoder
):
    """Stock ``MultimodalEncoderDecoder`` (SAN) that can also stream.

    Takes the arguments of :class:`mmseg.models.MultimodalEncoderDecoder`, and
    has its state-dict keys. See :class:`StreamingSegmentor`. Names of classes
    are encoded once, which is stock's default.
    """


def _enlarge(
    head: BaseDecodeHead, logits: Tensor, metas: list[dict]
) -> Tensor:
    """Do what the head does with logits, if they are not full-size yet."""
    shape = metas[0]['img_shape']
    if (
        # Of a window; images that are predicted whole may be padded.
        isinstance(shape, torch.Size)
        and logits.shape[2:] == shape
        and type(head).predict_by_feat is BaseDecodeHead.predict_by_feat
    ):
        return logits
    return head.predict_by_feat(logits, metas)
