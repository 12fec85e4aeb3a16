"""The only module that knows that there are two MMSegmentation stacks.

The modules ``mmengine``, ``mmcv`` and ``mmseg`` are provided either by the
maintained ``onedl-*`` distributions or by OpenMMLab's original ones. Both
work; mixing them does not.
"""

import logging
import warnings
from collections.abc import Callable
from importlib import import_module, metadata
from importlib.util import find_spec
from pickle import UnpicklingError
from typing import Any, NoReturn

# Distribution that provides a module, by stack.
STACKS = {
    'onedl': {
        'mmengine': 'onedl-mmengine',
        'mmcv': 'onedl-mmcv',
        'mmseg': 'onedl-mmsegmentation',
    },
    'openmmlab': {
        'mmengine': 'mmengine',
        'mmcv': 'mmcv',
        'mmseg': 'mmsegmentation',
    },
}
# First version that has what is used here, and the first major version that
# this package has never been run with.
SUPPORTED = {
    'mmengine': ('0.10.7', '1.0'),
    'mmcv': ('2.1.0', '3.0'),
    'mmseg': ('1.2.2', '2.0'),
}

_INSTALL = (
    'install one stack into a fresh environment: '
    '`pip install "mmsegmentation-uhr[onedl]"` (recommended), or '
    '`pip install "mmsegmentation-uhr[openmmlab]"` and an mmcv built with '
    'its compiled operators: `pip install --no-build-isolation "mmcv<2.2"`'
)


def has_stack() -> bool:
    """Tell whether there is anything of a stack; then it has to be whole.

    PyTorch alone is none: it may be there for something else.

    Returns:
        bool: Whether one of the stack's modules can be found.
    """
    return any(_is_there(name) for name in SUPPORTED)


def _is_there(name: str) -> bool:
    """Tell whether a module can be found; it is not imported."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def refuse(package: str, *names: str) -> Callable[[str], NoReturn]:
    """Make a package's ``__getattr__`` where there is no stack.

    Args:
        package (str): Name of the package.
        *names (str): What it would have with a stack.

    Returns:
        Callable: Raises ImportError for these names, which tells how to
        install a stack, and AttributeError for others.
    """

    def getattribute(name: str) -> Any:
        if name in names:
            raise ImportError(
                f'{package}.{name} needs PyTorch and MMSegmentation, which '
                f'are not installed; {_INSTALL}.'
            )
        raise AttributeError(f'module {package!r} has no attribute {name!r}')

    return getattribute


def log(message: str, level: int = logging.INFO) -> None:
    """Log where MMEngine logs; without it, where Python does.

    Args:
        message (str): One line.
        level (int): Of :mod:`logging`.
    """
    if has_stack():
        from mmengine.logging import print_log

        print_log(message, logger='current', level=level)
    else:
        logging.getLogger('mmseg_uhr').log(level, message)


def rank_and_world() -> tuple[int, int]:
    """Tell which process this is, and of how many.

    Returns:
        tuple[int]: ``(0, 1)`` outside a process group, and without a stack.
    """
    if not has_stack():
        return 0, 1
    from mmengine.dist import get_dist_info

    return get_dist_info()


def installed_stacks() -> dict[str, dict[str, str]]:
    """Look up which distributions provide the stack's modules.

    Returns:
        dict[str, dict[str, str]]: Module -> stack -> version; modules that
        run from a source checkout have no distribution and no entry.
    """
    found: dict[str, dict[str, str]] = {}
    for stack, distributions in STACKS.items():
        for module, distribution in distributions.items():
            try:
                version = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
            found.setdefault(module, {})[stack] = version
    return found


def check_stack() -> None:
    """Import the stack, or tell in one sentence what is wrong with it.

    Raises:
        ImportError: If a module is missing, too old, or refuses to work with
            the versions of the others.
    """
    installed = installed_stacks()
    _check_mixture(installed)
    for name, (minimum, untested) in SUPPORTED.items():
        version = getattr(_import(name, installed), '__version__', None)
        if version is None:
            continue
        # MMEngine is the first of them, so it is there by now.
        from mmengine.utils import digit_version

        if digit_version(version) < digit_version(minimum):
            raise ImportError(
                f'mmseg_uhr needs {name}>={minimum}, but found '
                f'{name} {version}; {_INSTALL}.'
            )
        if digit_version(version) >= digit_version(untested):
            warnings.warn(
                f'mmseg_uhr has not been tested with {name} {version} '
                f'(tested: {name}<{untested}).',
                stacklevel=3,
            )
    _check_openmmlab(installed)
    # Brings in everything that mmseg needs, such as ftfy and mmcv's
    # operators on OpenMMLab's stack.
    _import('mmseg.models', installed)


def _import(name: str, installed: dict[str, dict[str, str]]) -> object:
    """Import a module of the stack with an error that names the way out."""
    try:
        with warnings.catch_warnings():
            # mmcv tells of an operator that nothing here needs.
            warnings.filterwarnings('ignore', '.*MultiScaleDeformable')
            return import_module(name)
    except ModuleNotFoundError as error:
        root = name.split('.')[0]
        if error.name in (name, root):
            problem = f'mmseg_uhr needs {root}, which is not installed'
        else:
            problem = (
                f'mmseg_uhr cannot import {name}, because {error.name} is '
                'missing'
            )
        raise ImportError(f'{problem}; {_INSTALL}.') from error
    except (ImportError, AssertionError) as error:
        # mmsegmentation 1.2 asserts the versions of its dependencies.
        reason = str(error).strip().rstrip('.')
        raise ImportError(
            f'mmseg_uhr cannot import {name} ({reason}); installed: '
            f'{_describe(installed)}; {_INSTALL}.'
        ) from error


def _describe(installed: dict[str, dict[str, str]]) -> str:
    """List the stack's distributions, e.g. ``'onedl-mmcv 2.3.6'``."""
    return ', '.join(
        f'{STACKS[stack][module]} {version}'
        for module, versions in installed.items()
        for stack, version in versions.items()
    )


def _check_mixture(installed: dict[str, dict[str, str]]) -> None:
    """Warn of distributions that write over each other's files."""
    stacks = {stack for versions in installed.values() for stack in versions}
    if len(stacks) > 1:
        warnings.warn(
            f'Two MMSegmentation stacks are mixed: {_describe(installed)}; '
            f'they overwrite each other. If anything fails, {_INSTALL}.',
            stacklevel=4,
        )


def _check_openmmlab(installed: dict[str, dict[str, str]]) -> None:
    """Find the two traps of OpenMMLab's last releases."""
    if 'openmmlab' in installed.get('mmseg', {}) and not find_spec(
        'mmcv._ext'
    ):
        raise ImportError(
            'mmseg_uhr cannot use mmsegmentation '
            f'{installed["mmseg"]["openmmlab"]}, because mmcv was installed '
            f'without its compiled operators; {_INSTALL}.'
        )
    if 'openmmlab' in installed.get('mmengine', {}) and not find_spec(
        'pkg_resources'
    ):
        warnings.warn(
            'mmengine '
            f'{installed["mmengine"]["openmmlab"]} cannot resolve config '
            'references such as "mmseg_uhr::hgn/...", because setuptools has '
            'no pkg_resources any more: `pip install "setuptools<82"`.',
            stacklevel=4,
        )


def register_config_packages() -> None:
    """Let MMEngine resolve ``mmseg_uhr::`` and ``mmseg::`` references.

    MMEngine looks up the distribution of a module in a fixed table. Ours gets
    its *module* name, which no distribution has: MMEngine then asks Python
    where the module lies, which is right for wheels, editable installs and
    source trees alike. ``mmseg`` gets the distribution that is installed:
    left alone, MMEngine would install another one over it.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('mmseg_uhr', 'mmseg_uhr')
    stacks = installed_stacks().get('mmseg', {})
    if stacks and 'openmmlab' not in stacks:
        MODULE2PACKAGE['mmseg'] = STACKS['onedl']['mmseg']


def register_safe_globals() -> None:
    """Let PyTorch load MMEngine's checkpoints with ``weights_only=True``.

    The default since PyTorch 2.6. MMEngine's checkpoints carry the history of
    logged values, which are NumPy numbers in :class:`HistoryBuffer` objects.
    These pickle their statistics as ``getattr(HistoryBuffer, 'mean')``. The
    real ``getattr`` would lead a crafted file to any function there is, so
    that name stands for one that finds these methods and nothing else.
    """
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer

    if not hasattr(torch.serialization, 'add_safe_globals'):
        return
    multiarray = getattr(np, '_core', None) or np.core
    multiarray = multiarray.multiarray
    dtypes = {
        type(np.dtype(code))
        for code in [
            '?',
            'i1',
            'i2',
            'i4',
            'i8',
            'u1',
            'u2',
            'u4',
            'u8',
            'f2',
            'f4',
            'f8',
        ]
    }
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            _history_method,
            slice,
            np.ndarray,
            np.dtype,
            multiarray._reconstruct,
            multiarray.scalar,
            *sorted(dtypes, key=lambda dtype: dtype.__name__),
        ]
    )


def _history_method(owner: object, name: str) -> object:
    """Stand in for ``getattr`` in checkpoints."""
    from mmengine.logging import HistoryBuffer

    methods = vars(HistoryBuffer) if owner is HistoryBuffer else {}
    if name in methods and not name.startswith('_'):
        return methods[name]
    raise UnpicklingError(
        f'getattr of {owner!r:.80}, but only methods of HistoryBuffer are '
        'looked up'
    )


# The name by which PyTorch knows an allowed function.
_history_method.__module__ = 'builtins'
_history_method.__name__ = _history_method.__qualname__ = 'getattr'
