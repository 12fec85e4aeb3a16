"""Loading weights with an answer when they are the wrong ones."""

import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from ..compat import register_safe_globals

# Parameters that a prediction does without: heads that only add a loss.
_TRAINING_ONLY = 'auxiliary_head.'
# Names of a kind that an error lists.
_EXAMPLES = 3
_KEEP_WEIGHTS = (
    'Expected a file written by tools/train.py. If you trust the file, keep '
    "its weights only: torch.save({'state_dict': torch.load(path, "
    "weights_only=False)['state_dict']}, new_path)"
)
#: Way out of tools that have this option.
TRUST = (
    'If you trust who made it, repeat with --trust, which runs whatever the '
    'file says'
)
_WAY_OUT = 'give the checkpoint that was trained with this config'
# PyTorch's own switches: the first makes every torch.load safe, whatever its
# caller wants; it does not stand the second beside it.
_FORCED = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_UNFORCED = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


class CheckpointError(ValueError):
    """A checkpoint that is not there, not readable, or of another model."""


def load_weights(
    model: nn.Module,
    path: str | Path,
    trust: bool = False,
    way_out: str = _KEEP_WEIGHTS,
) -> dict[str, Any]:
    """Load a checkpoint for prediction, completely or not at all.

    MMEngine loads what fits and logs the rest, so that the checkpoint of
    another model gives a random prediction. Here every parameter of the model
    must be found with its shape, except those of auxiliary heads. Parameters
    that only the checkpoint has are logged.

    Args:
        model (nn.Module): The model; wrapped for distributed or augmented
            testing if you like.
        path (str | Path): File, or a URL that MMEngine can load.
        trust (bool): See :func:`read_checkpoint`.
        way_out (str): See :func:`read_checkpoint`.

    Returns:
        dict: The checkpoint's ``meta``, such as ``dataset_meta``; empty for a
        bare state dict.

    Raises:
        CheckpointError: If the file does not exist, is no checkpoint, or
            belongs to another model; names the file and the first parameters
            that differ.
    """
    checkpoint = read_checkpoint(path, trust, way_out)
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    weights = weights_of(checkpoint, path)
    shapes = {name: value.shape for name, value in weights.items()}
    try:
        # Of PyTorch, not of MMEngine, which does not tell what it skipped.
        # Conversions of old checkpoints, done by the modules, still apply.
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        differing = [
            f'{name} is {tuple(shapes[name])}, expected {tuple(value.shape)}'
            for name, value in model.state_dict().items()
            if name in shapes and shapes[name] != value.shape
        ]
        raise CheckpointError(
            f'{path}: does not fit the model: '
            f'{_some(differing or [error])}; {_WAY_OUT}'
        ) from error
    missing = [
        name
        for name in missing
        if not name.startswith(_TRAINING_ONLY)
        and not name.endswith('num_batches_tracked')
    ]
    if missing:
        raise CheckpointError(
            f'{path}: does not fit the model: {len(missing)} of its '
            f'parameters are not in the file ({_some(missing)}), which has '
            f'{_some(list(shapes))}; {_WAY_OUT}'
        )
    if unexpected:
        print_log(
            f'{path}: {len(unexpected)} parameters are not used by the '
            f'model: {_some(list(unexpected))}',
            logger='current',
            level=30,
        )
    return dict(checkpoint.get('meta') or {})


def read_checkpoint(
    path: str | Path,
    trust: bool = False,
    way_out: str = _KEEP_WEIGHTS,
    map_location: Union[str, torch.device, None] = 'cpu',
) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``: it runs no code.

    Args:
        path (str | Path): File, or a URL that MMEngine can load.
        trust (bool): Whether the file may run code of its own while it is
            read. Without, only weights and plain data are.
        way_out (str): What the error of a file with code recommends.
        map_location (str | torch.device, optional): As of ``torch.load``.
            Defaults to ``'cpu'``.

    Returns:
        dict: The checkpoint.

    Raises:
        CheckpointError: If the file does not exist, is no checkpoint, or
            carries code and is not trusted; names the file.
    """
    path = str(path)
    try:
        with refusal_explained(path, way_out):
            if '://' in path:
                with forced_weights_only(not trust):
                    checkpoint = CheckpointLoader.load_checkpoint(
                        path, map_location
                    )
            else:
                file = Path(path).expanduser()
                if not file.is_file():
                    raise CheckpointError(
                        f'{path}: no such file; expected a checkpoint, such '
                        'as work_dirs/<config>/iter_<n>.pth'
                    )
                # Again: MMEngine's loading forgets them after itself.
                register_safe_globals()
                checkpoint = torch.load(
                    file, map_location, weights_only=not trust
                )
    except CheckpointError:
        raise
    except Exception as error:
        # Reading a file of another kind as a pickle raises anything.
        raise CheckpointError(
            f'{path}: not a checkpoint, or a truncated one '
            f'({type(error).__name__}: {error}); expected a file written by '
            'tools/train.py; copy or train it again'
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{path}: holds a {type(checkpoint).__name__}, expected a '
            'checkpoint (dict) written by tools/train.py'
        )
    return checkpoint


@contextmanager
def refusal_explained(path: str, way_out: str) -> Iterator[None]:
    """Name the file and the way out where PyTorch refuses to load one.

    Args:
        path (str): The file or URL that is read within.
        way_out (str): What the error recommends.

    Raises:
        CheckpointError: If the file carries code.
    """
    try:
        yield
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f'{path}: not a checkpoint, or one that carries Python objects '
            f'besides weights ({_reason(error)}), which could run any code; '
            f'none was run. {way_out}'
        ) from error


@contextmanager
def forced_weights_only(force: bool = True) -> Iterator[None]:
    """Make every ``torch.load`` safe, whoever calls it and how.

    Args:
        force (bool): Whether to; else they do as their callers say. Holds
            for processes that are started within, too.
    """
    saved = {name: os.environ.get(name) for name in (_FORCED, _UNFORCED)}
    for name in saved:
        os.environ.pop(name, None)
    if force:
        os.environ[_FORCED] = '1'
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def weights_of(
    checkpoint: dict[str, Any], path: str | Path
) -> dict[str, torch.Tensor]:
    """Find the weights in a checkpoint.

    Args:
        checkpoint (dict): With ``state_dict``, or a bare state dict.
        path (str | Path): Its file, for the message.

    Returns:
        dict[str, Tensor]: The state dict, names without ``module.``.

    Raises:
        CheckpointError: If there are no weights.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    if (
        not isinstance(weights, dict)
        or not weights
        or not all(
            isinstance(value, torch.Tensor) for value in weights.values()
        )
    ):
        raise CheckpointError(
            f'{path}: has no weights; expected a dict of tensors, or one '
            f'under "state_dict"; found the keys {_some(list(checkpoint))}'
        )
    # Models wrapped for several processes were saved with a prefix.
    return {
        re.sub(r'^module\.', '', name): value
        for name, value in weights.items()
    }


def _reason(error: Exception) -> str:
    """Return what PyTorch found, without its advice to be careless."""
    _, marker, text = str(error).rpartition('WeightsUnpickler error:')
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Without that name, the first line says only that it failed.
    reason = lines[1] if len(lines) > 1 and not marker else lines[0]
    return reason.split('. ')[0].rstrip('.')


def _some(names: list[Any]) -> str:
    """List the first few names."""
    more = len(names) - _EXAMPLES
    text = ', '.join(str(name) for name in names[:_EXAMPLES])
    return f'{text} and {more} more' if more > 0 else text
