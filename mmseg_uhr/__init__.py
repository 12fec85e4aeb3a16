"""MMSegmentation for ultra-high-resolution images.

Importing the package registers its types; a config does that with
``custom_imports = dict(imports=['mmseg_uhr'], allow_failed_imports=False)``.

Where neither of MMSegmentation's stacks is installed, nothing is registered;
what needs none of them works: rasters, and exported networks run over scenes.
"""

from . import compat
from .version import __version__

if compat.has_stack():
    compat.check_stack()
    compat.register_config_packages()
    compat.register_safe_globals()

    # Only now: these need a working stack, and registering is their side
    # effect.
    from . import datasets, engine, evaluation, models
else:
    __getattr__ = compat.refuse(
        __name__, 'datasets', 'engine', 'evaluation', 'models'
    )

__all__ = ['__version__', 'datasets', 'engine', 'evaluation', 'models']
