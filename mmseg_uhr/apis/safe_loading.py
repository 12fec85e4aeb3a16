"""Checkpoints that run no code, wherever a run of MMEngine loads one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Union

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from .checkpoint import (
    TRUST,
    forced_weights_only,
    read_checkpoint,
    refusal_explained,
)

# Of MMEngine's schemes, that of local files.
_LOCAL = ''


@contextmanager
def safe_loading(trust: bool = False, way_out: str = TRUST) -> Iterator[None]:
    """Let a Runner load no checkpoint that runs code.

    MMEngine reads what ``load_from``, ``resume`` and ``init_cfg`` name in
    ways of its own, which depend on its version and on PyTorch's: some run
    whatever a file says, some do once the safe way has failed, and downloads
    always do. Within this context files are read by :func:`read_checkpoint`,
    and whatever else calls ``torch.load`` is forced to be safe.

    Args:
        trust (bool): Whether files may run code of their own after all.
        way_out (str): What the error of a file with code recommends.

    Raises:
        CheckpointError: By the loading within, if a file carries code and is
            not trusted, or cannot be read; names the file.
    """
    # A table that MMEngine only lets one add to.
    schemes = dict(CheckpointLoader._schemes)
    for prefix, load in schemes.items():
        safe = _safe(load, prefix == _LOCAL, trust, way_out)
        CheckpointLoader.register_scheme(prefix, safe, force=True)
    try:
        with forced_weights_only(not trust):
            yield
    finally:
        for prefix, load in schemes.items():
            CheckpointLoader.register_scheme(prefix, load, force=True)


def _safe(
    load: Callable[..., Any], is_local: bool, trust: bool, way_out: str
) -> Callable[..., Any]:
    """Return a loader of MMEngine that runs no code and names its file."""

    # MMEngine logs the name of the function.
    @wraps(load)
    def safe(
        filename: str, map_location: Union[str, torch.device, None] = None
    ) -> Any:
        if is_local:
            return read_checkpoint(filename, trust, way_out, map_location)
        with refusal_explained(filename, way_out):
            return load(filename, map_location)

    return safe
