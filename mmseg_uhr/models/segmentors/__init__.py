"""Segmentors that stream."""

from .uhr_encoder_decoder import UHREncoderDecoder

__all__ = ['UHREncoderDecoder']
