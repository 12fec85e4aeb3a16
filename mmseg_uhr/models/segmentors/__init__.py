"""Segmentors that stream."""

from .execution import Execution
from .streaming_config import STREAMING_TYPES, streaming_config, streaming_type
from .streaming_segmentor import StreamingSegmentor
from .uhr_encoder_decoder import (
    UHRCascadeEncoderDecoder,
    UHREncoderDecoder,
    UHRMultimodalEncoderDecoder,
)

__all__ = [
    'STREAMING_TYPES',
    'Execution',
    'StreamingSegmentor',
    'UHRCascadeEncoderDecoder',
    'UHREncoderDecoder',
    'UHRMultimodalEncoderDecoder',
    'streaming_config',
    'streaming_type',
]
