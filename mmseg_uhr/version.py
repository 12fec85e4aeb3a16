"""The version of the distribution ``mmsegmentation-uhr``."""

__version__ = '0.1.0'
