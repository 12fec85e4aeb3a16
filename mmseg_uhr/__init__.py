"""MMSegmentation for ultra-high-resolution images.

Importing the package registers its types; a config does that with
``custom_imports = dict(imports=['mmseg_uhr'], allow_failed_imports=False)``.
"""

from .version import __version__

__all__ = ['__version__']
