"""Segmentors that stream, from any config and checkpoint."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS

from ..models.segmentors import (
    Execution,
    StreamingSegmentor,
    streaming_config,
)
from .checkpoint import load_weights
from .launch import pick_device


def init_segmentor(
    config: str | Path | Config,
    checkpoint: str | Path,
    device: str | None = None,
    cfg_options: dict[str, Any] | None = None,
    precision: str = 'fp32',
    channels_last: bool = False,
    compile: bool = False,
) -> StreamingSegmentor:
    """Build a segmentor that streams, with trained weights.

    Args:
        config (str | Path | Config): Ours or stock; a stock
            ``EncoderDecoder``, ``CascadeEncoderDecoder`` or
            ``MultimodalEncoderDecoder`` becomes ours, and its ``slide`` mode
            becomes ``stream`` with the same windows.
        checkpoint (str | Path): Weights.
        device (str, optional): E.g. ``'cuda:0'``. Defaults to the best.
        cfg_options (dict, optional): Overrides, as ``--cfg-options``.
        precision (str): Of the windows' forward pass: ``'fp32'``, or
            ``'fp16'`` (GPUs) or ``'bf16'`` by autocast; logits are summed in
            fp32 all the same. Defaults to ``'fp32'``.
        channels_last (bool): Whether the network's maps have their channels
            last in memory, which is faster for convolutions in half precision
            on GPUs and on many CPUs. Defaults to False.
        compile (bool): Whether ``torch.compile`` compiles the forward pass,
            which takes up to minutes before the first window; batch norms are
            folded into the weights for good. Defaults to False.

    Returns:
        StreamingSegmentor: In eval mode, with ``cfg`` and ``dataset_meta``.

    Raises:
        FileNotFoundError: If the config does not exist.
        ValueError: If the checkpoint does not fit, the model cannot stream,
            or the device cannot do what is asked for.
    """
    cfg = config
    if not isinstance(config, Config):
        cfg = Config.fromfile(config)
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    if 'model' not in cfg:
        raise ValueError(
            f'{cfg.filename or "config"}: has no model; give the whole config '
            'of an experiment, not one of its parts'
        )
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    model = MODELS.build(streaming_config(cfg.model))
    meta = load_weights(model, checkpoint)
    model.dataset_meta = meta.get('dataset_meta') or _dataset_meta(cfg)
    model.cfg = cfg
    model.to(pick_device(device)).eval()
    model.execution = Execution(model, precision, channels_last, compile)
    return model


def _dataset_meta(cfg: Config) -> dict:
    """Look up classes and palette for checkpoints that carry none."""
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    if 'type' not in dataset:
        return {}
    return dict(
        getattr(DATASETS.get(dataset.type), 'METAINFO', {}),
        **dataset.get('metainfo', {}),
    )
