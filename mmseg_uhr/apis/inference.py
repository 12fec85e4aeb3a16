"""From a config, a checkpoint and an image to a map on disk."""

import json
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from tqdm import tqdm

from ..datasets.transforms import LoadRaster
from ..models.segmentors import UHREncoderDecoder
from ..rasters import GeoTIFFWriter
from .checkpoint import load_weights
from .launch import pick_device
from .overlay import write_overlay

# For models whose config predicts images whole: windows that a model trained
# on common crops can digest, with a third of overlap, in pixels.
_CROP_SIZE, _STRIDE = (1024, 1024), (683, 683)


def init_segmentor(
    config: str | Path | Config,
    checkpoint: str | Path,
    device: str | None = None,
    cfg_options: dict[str, Any] | None = None,
) -> UHREncoderDecoder:
    """Build a segmentor that streams, with trained weights.

    Args:
        config (str | Path | Config): Ours or stock; a stock
            ``EncoderDecoder`` becomes :class:`UHREncoderDecoder`, and its
            ``slide`` mode becomes ``stream`` with the same windows.
        checkpoint (str | Path): Weights.
        device (str, optional): E.g. ``'cuda:0'``. Defaults to the best.
        cfg_options (dict, optional): Overrides, as ``--cfg-options``.

    Returns:
        UHREncoderDecoder: In eval mode, with ``cfg`` and ``dataset_meta``.

    Raises:
        FileNotFoundError: If the config does not exist.
        ValueError: If the checkpoint does not fit, or the model cannot
            stream.
    """
    cfg = config
    if not isinstance(config, Config):
        cfg = Config.fromfile(config)
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    model = MODELS.build(_streaming(cfg.model))
    meta = load_weights(model, checkpoint)
    model.dataset_meta = meta.get('dataset_meta') or _dataset_meta(cfg)
    model.cfg = cfg
    return model.to(pick_device(device)).eval()


def _streaming(cfg: ConfigDict) -> ConfigDict:
    """Return a model config that streams."""
    if cfg.type in ('EncoderDecoder', 'mmseg.EncoderDecoder'):
        cfg = ConfigDict(cfg, type='mmseg_uhr.UHREncoderDecoder')
    elif not str(cfg.type).startswith('mmseg_uhr.'):
        raise ValueError(
            f'model.type={cfg.type!r} cannot stream: expected '
            "'EncoderDecoder' or a type of mmseg_uhr"
        )
    test_cfg = ConfigDict(cfg.get('test_cfg') or {})
    if test_cfg.get('mode', 'whole') == 'whole':
        test_cfg.setdefault('crop_size', _CROP_SIZE)
        test_cfg.setdefault('stride', _STRIDE)
    test_cfg.mode = 'stream'
    return ConfigDict(cfg, test_cfg=test_cfg, train_cfg=None, pretrained=None)


def _dataset_meta(cfg: Config) -> dict:
    """Look up classes and palette for checkpoints that carry none."""
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    if 'type' not in dataset:
        return {}
    return dict(
        getattr(DATASETS.get(dataset.type), 'METAINFO', {}),
        **dataset.get('metainfo', {}),
    )


def _loader(cfg: Config, bands: tuple[int, ...] | None) -> LoadRaster:
    """Build the first step of the test pipeline: bands, type and range."""
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    for step in dataset.get('pipeline', []):
        if step['type'] == 'mmseg_uhr.LoadRaster':
            options = {k: v for k, v in step.items() if k != 'type'}
            return LoadRaster(
                **{**options, 'bands': bands or step.get('bands')}
            )
    return LoadRaster(bands=bands)


def segment(
    model: UHREncoderDecoder,
    image: str | Path,
    out: str | Path,
    overlay: str | Path | None = None,
    bands: tuple[int, ...] | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Segment a scene of any size into a paletted GeoTIFF.

    The file has the scene's size and georeference, one band of class ids,
    the classes' colours, and their names as tag ``CLASSES`` (JSON). It gets
    its name when it is complete.

    Args:
        model (UHREncoderDecoder): From :func:`init_segmentor`.
        image (str | Path): The scene.
        out (str | Path): The GeoTIFF to write.
        overlay (str | Path, optional): A PNG to write: the classes drawn over
            the down-sampled scene.
        bands (tuple[int], optional): Bands of the scene to use, from 1.
        progress (bool): Whether to show a progress bar. Defaults to True.

    Returns:
        dict[str, float]: ``megapixels``, ``seconds`` and
        ``seconds_per_megapixel`` of reading, predicting and writing.

    Raises:
        RasterError: If the scene cannot be read or the map not written.
    """
    raster = _loader(model.cfg, bands).open(str(image))
    height, width = raster.shape
    palette = model.dataset_meta.get('palette')
    classes = list(model.dataset_meta.get('classes', []))
    wide = model.out_channels > 256
    start = time.perf_counter()
    with (
        GeoTIFFWriter(
            out,
            raster.shape,
            dtype='int16' if wide else 'uint8',
            georef=raster.georef,
            palette=None if wide else palette,
            tags={'CLASSES': json.dumps(classes)},
        ) as writer,
        tqdm(
            total=height * width / 1e6,
            unit='MP',
            desc=Path(image).name,
            disable=not progress,
            bar_format='{l_bar}{bar}| {n:.1f}/{total:.1f} MP '
            '[{elapsed}<{remaining}]',
        ) as bar,
    ):
        for y, rows in model.stream(raster):
            writer.write_rows(y, rows.numpy())
            bar.update(rows.numel() / 1e6)
    seconds = time.perf_counter() - start
    if overlay is not None:
        write_overlay(overlay, raster, out, palette)
    megapixels = height * width / 1e6
    return dict(
        megapixels=megapixels,
        seconds=seconds,
        seconds_per_megapixel=seconds / megapixels,
    )
