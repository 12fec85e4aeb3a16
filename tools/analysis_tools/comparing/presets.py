"""Lists of systems that are compared."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class System:
    """A network to compare.

    Attributes:
        config (str): Its file.
        options (dict): Fields that differ from it, keys with dots.
    """

    config: str
    options: dict[str, Any] = field(default_factory=dict)


_HGN = 'configs/hgn/hgn_r18-w32_5min_bluemarble-192x192.py'
_DEEP = 'model.backbone.deep'
_GSAG = 'model.backbone.graft'
_LSAG = 'model.decode_head.graft'
_CONTRAST = 'model.auxiliary_head.0.loss_contrast'


def _without_grafts(stride: int) -> dict[str, Any]:
    """Return options for a plain pyramid whose deep map has this stride."""
    return {_GSAG: None, f'{_LSAG}.align': 'bilinear', **_stride(stride)}


def _stride(stride: int) -> dict[str, Any]:
    """Return options for another output stride of the deep network."""
    strides = {8: (1, 2, 1, 1), 16: (1, 2, 2, 1), 32: (1, 2, 2, 2)}[stride]
    dilations = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}[stride]
    return {f'{_DEEP}.strides': strides, f'{_DEEP}.dilations': dilations}


def _stages(*names: str) -> dict[str, Any]:
    """Return options that graft onto these stages of the deep network."""
    width = dict(layer2=64, layer3=128, layer4=256)
    return {
        'model.backbone.graft_stages': names,
        'model.backbone.graft_channels': tuple(width[name] for name in names),
    }


# Networks at published widths learn from the crops and by the optimiser of the
# narrow ones, at a rate that suits their widths.
_WIDE_RATE = {'optim_wrapper.optimizer.lr': 2e-3}
_WIDE_HGN: dict[str, Any] = {
    'model.backbone.shallow.channels': (32, 64, 256, 512),
    **{f'{_DEEP}.{k}_channels': 64 for k in ('base', 'stem')},
    f'{_GSAG}.shallow_channels': 512,
    f'{_GSAG}.channels': 128,
    f'{_GSAG}.num_descriptors': 64,
    'model.backbone.graft_channels': (128, 256, 512),
    'model.neck.in_channels': (128, 256, 512),
    'model.neck.channels': 128,
    'model.decode_head.channels': 64,
    'model.auxiliary_head.0.in_channels': 512,
    'model.auxiliary_head.0.embed_channels': 128,
    'model.auxiliary_head.0.channels': 64,
    **_WIDE_RATE,
}
_WIDE: dict[str, System] = {
    # As in the full configs: logits at 1/8.
    'HGN-R18': System(
        _HGN,
        {
            **_WIDE_HGN,
            'model.backbone.shallow.out_indices': (2, 3),
            'model.decode_head.in_channels': (256, 512, 128),
            'model.decode_head.in_index': (0, 1, 2),
            'model.decode_head.align_channels': (128, 128),
            'model.auxiliary_head.0.in_index': 1,
            'model.auxiliary_head.0.deep_index': 2,
        },
    ),
    'HGN-R18, finer head': System(
        _HGN,
        {
            **_WIDE_HGN,
            'model.decode_head.in_channels': (64, 256, 512, 128),
            'model.decode_head.align_channels': (64, 128, 128),
        },
    ),
    'DeepLabV3+ R18': System(
        'configs/baselines/deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192.py',
        {
            **{f'model.backbone.{k}_channels': 64 for k in ('base', 'stem')},
            'model.decode_head.in_channels': 512,
            'model.decode_head.channels': 128,
            'model.decode_head.c1_in_channels': 64,
            'model.auxiliary_head.in_channels': 256,
            'model.auxiliary_head.channels': 64,
            **_WIDE_RATE,
        },
    ),
    'ISDNet-R18': System(
        'configs/isdnet/isdnet_r18-w16_5min_bluemarble-192x192.py',
        {
            'model.backbone.shallow.channels': (32, 64, 256, 512),
            **{f'{_DEEP}.{k}_channels': 64 for k in ('base', 'stem')},
            'model.neck.shallow_channels': (256, 512),
            'model.neck.deep_channels': 512,
            'model.neck.channels': 128,
            'model.decode_head.in_channels': 128,
            'model.decode_head.channels': 64,
            'model.auxiliary_head.0.in_channels': 128,
            'model.auxiliary_head.0.channels': 128,
            'model.auxiliary_head.0.decoder_channels': (64, 64, 128),
            'model.auxiliary_head.1.in_channels': 128,
            'model.auxiliary_head.1.channels': 64,
            **_WIDE_RATE,
        },
    ),
}

_PARTS: dict[str, dict[str, Any]] = {
    'HGN': {},
    'no grafts': _without_grafts(32),
    'no grafts, deep stride 8': _without_grafts(8),
    'deep stride 8': _stride(8),
    'deep copy at 1/2': {'model.backbone.down': 2},
    'deep copy at 1/8': {'model.backbone.down': 8},
    'no GSAG': {_GSAG: None},
    'GSAG on layer4 only': _stages('layer4'),
    'GSAG, one mean': {f'{_GSAG}.aggregate': 'gap'},
    'GSAG, all positions': {f'{_GSAG}.aggregate': 'exact'},
    'LSAG, bilinear': {f'{_LSAG}.align': 'bilinear'},
    'LSAG, window': {f'{_LSAG}.align': 'window'},
    'no contrastive loss': {f'{_CONTRAST}.loss_weight': 0.0},
    'contrastive loss, weight 0.05': {f'{_CONTRAST}.loss_weight': 0.05},
    'contrastive loss, weight 0.2': {f'{_CONTRAST}.loss_weight': 0.2},
}

#: Preset -> name for people -> what is trained.
PRESETS: dict[str, dict[str, System]] = {
    'cpu': {
        'HGN': System('configs/hgn/hgn_r18-w32_5min_bluemarble-192x192.py'),
        'DeepLabV3+ R18': System(
            'configs/baselines/'
            'deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192.py'
        ),
        'ISDNet': System(
            'configs/isdnet/isdnet_r18-w16_5min_bluemarble-192x192.py'
        ),
        'SGHRQ': System(
            'configs/sghrq/sghrq_r18-w16_5min_bluemarble-192x192.py'
        ),
        'HLRC': System('configs/hlrc/hlrc_w16_5min_bluemarble-192x192.py'),
        'FCtL': System(
            'configs/fctl/fctl-fpn_r18-w16_5min_bluemarble-192x192.py'
        ),
        'LCF-ALE': System(
            'configs/lcf_ale/lcf-ale-fpn_r18-w16_5min_bluemarble-192x192.py'
        ),
        'DeepLabV3+ R18, whole at 1/4': System(
            'configs/baselines/'
            'deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192_quarter.py'
        ),
        'STDC1': System(
            'configs/baselines/stdc1-w16_5min_bluemarble-192x192.py'
        ),
        'SegFormer-B0': System(
            'configs/baselines/segformer_mit-b0_5min_bluemarble-192x192.py'
        ),
        'HGN, ImageNet weights': System(
            'configs/hgn/hgn_efficientnet-lite0_5min_bluemarble-192x192.py'
        ),
        'DeepLabV3+, ImageNet weights': System(
            'configs/baselines/'
            'deeplabv3plus_efficientnet-lite0_5min_bluemarble-192x192.py'
        ),
    },
    'gpu': {
        'HGN': System('configs/hgn/hgn_r18_20k_bluemarble-768x768.py'),
        'DeepLabV3+ R18': System(
            'configs/baselines/deeplabv3plus_r18-d8_20k_bluemarble-768x768.py'
        ),
        'ISDNet': System(
            'configs/isdnet/isdnet_r18_20k_bluemarble-768x768.py'
        ),
        'SGHRQ': System('configs/sghrq/sghrq_r18_20k_bluemarble-768x768.py'),
        'HLRC': System('configs/hlrc/hlrc_swin-t_20k_bluemarble-768x768.py'),
        'FCtL': System('configs/fctl/fctl-fpn_r18_20k_bluemarble-512x512.py'),
        'LCF-ALE': System(
            'configs/lcf_ale/lcf-ale-fpn_r18_20k_bluemarble-512x512.py'
        ),
        'STDC1': System('configs/baselines/stdc1_20k_bluemarble-768x768.py'),
        'SegFormer-B0': System(
            'configs/baselines/segformer_mit-b0_20k_bluemarble-768x768.py'
        ),
    },
    'cpu-wide': _WIDE,
    'hgn-parts': {
        name: System(_HGN, options) for name, options in _PARTS.items()
    },
}
