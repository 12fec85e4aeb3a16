"""What the result of a run depends on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..rasters import Raster
from ..streaming import Outputs, StreamSettings

if TYPE_CHECKING:
    from mmengine.config import Config

# What the pixels do not depend on, but for rounding.
_FREE_SETTINGS = ('batch_size', 'accumulate_on')
_FREE_FIELDS = ('test_cfg', 'train_cfg', 'pretrained')


def run_identity(
    network: Mapping[str, Any],
    settings: StreamSettings,
    raster: Raster,
    outputs: Outputs,
) -> dict[str, Any]:
    """Describe a run so that another one that differs can be told.

    Args:
        network (Mapping[str, Any]): All that logits of windows depend on,
            such as from :func:`network_identity`.
        settings (StreamSettings): How the scene is cut into windows.
        raster (Raster): The scene.
        outputs (Outputs): What is wanted besides labels.

    Returns:
        dict[str, Any]: For JSON.
    """
    return dict(
        network,
        image=raster.identity(),
        stream={
            name: value
            for name, value in asdict(settings).items()
            if name not in _FREE_SETTINGS
        },
        outputs=asdict(outputs),
    )


def network_identity(
    cfg: 'Config', checkpoint: str | Path, precision: str
) -> dict[str, Any]:
    """Describe a network of PyTorch.

    Args:
        cfg (Config): Of the experiment.
        checkpoint (str | Path): Its weights.
        precision (str): Of the forward pass.

    Returns:
        dict[str, Any]: For JSON.
    """
    return dict(
        model=_model_digest(cfg),
        checkpoint=file_identity(checkpoint),
        precision=precision,
    )


def file_identity(path: str | Path) -> dict[str, str]:
    """Describe a file by name and content; a URL by itself.

    Args:
        path (str | Path): Of a checkpoint.

    Returns:
        dict[str, str]: ``name`` and, of a local file, ``sha256``.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        return dict(name=str(path))
    digest = hashlib.sha256()
    with open(file, 'rb') as content:
        while block := content.read(2**20):
            digest.update(block)
    return dict(name=file.name, sha256=digest.hexdigest())


def digest_of(value: Any) -> str:
    """Return a SHA-256 of a value of JSON, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _model_digest(cfg: 'Config') -> str:
    """Return a checksum of the model's config, but for its windows."""
    model = cfg.model
    return digest_of(
        {name: model[name] for name in model if name not in _FREE_FIELDS}
    )
