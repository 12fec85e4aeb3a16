"""The only module that knows that there are two MMSegmentation stacks.

The modules ``mmengine``, ``mmcv`` and ``mmseg`` are provided either by the
maintained ``onedl-*`` distributions or by OpenMMLab's original ones. Both
work; mixing them does not.
"""

import warnings
from importlib import import_module, metadata
from importlib.util import find_spec

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
    ``getattr`` has to be among them, because the buffers pickle their bound
    methods; so a checkpoint may look up attributes of the types listed here,
    but still names no function to call besides them.
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
            getattr,
            slice,
            np.ndarray,
            np.dtype,
            multiarray._reconstruct,
            multiarray.scalar,
            *sorted(dtypes, key=lambda dtype: dtype.__name__),
        ]
    )
