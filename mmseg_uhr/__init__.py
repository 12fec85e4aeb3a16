"""MMSegmentation for ultra-high-resolution images.

Importing the package registers its types; a config does that with
``custom_imports = dict(imports=['mmseg_uhr'], allow_failed_imports=False)``.
"""

from . import compat
from .version import __version__

compat.check_stack()
compat.register_config_packages()
compat.register_safe_globals()

# Only now: these need a working stack, and registering is their side effect.
from . import datasets, engine, evaluation, models  # noqa: E402

__all__ = ['__version__', 'datasets', 'engine', 'evaluation', 'models']
