"""Samplers that decide which windows of which scenes are seen."""

from .window_sampler import WindowSampler

__all__ = ['WindowSampler']
