"""Segmentors that stream."""

from .execution import Execution
from .streaming_segmentor import StreamingSegmentor
from .uhr_encoder_decoder import (
    UHRCascadeEncoderDecoder,
    UHREncoderDecoder,
    UHRMultimodalEncoderDecoder,
)

__all__ = [
    'Execution',
    'StreamingSegmentor',
    'UHRCascadeEncoderDecoder',
    'UHREncoderDecoder',
    'UHRMultimodalEncoderDecoder',
]
