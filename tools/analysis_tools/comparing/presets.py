"""Lists of systems that are compared."""

#: Preset -> name for people -> config.
PRESETS: dict[str, dict[str, str]] = {
    'cpu': {
        'HGN': 'configs/hgn/hgn_r18-w16_5min_bluemarble-192x192.py',
        'DeepLabV3+ R18': (
            'configs/baselines/'
            'deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192.py'
        ),
        'ISDNet': 'configs/isdnet/isdnet_r18-w16_5min_bluemarble-192x192.py',
        'SGHRQ': 'configs/sghrq/sghrq_r18-w16_5min_bluemarble-192x192.py',
        'HLRC': 'configs/hlrc/hlrc_w16_5min_bluemarble-192x192.py',
        'FCtL': 'configs/fctl/fctl-fpn_r18-w16_5min_bluemarble-192x192.py',
        'LCF-ALE': (
            'configs/lcf_ale/lcf-ale-fpn_r18-w16_5min_bluemarble-192x192.py'
        ),
        'DeepLabV3+ R18, whole at 1/4': (
            'configs/baselines/'
            'deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192_quarter.py'
        ),
        'STDC1': 'configs/baselines/stdc1-w16_5min_bluemarble-192x192.py',
        'SegFormer-B0': (
            'configs/baselines/segformer_mit-b0_5min_bluemarble-192x192.py'
        ),
    },
    'gpu': {
        'HGN': 'configs/hgn/hgn_r18_20k_bluemarble-768x768.py',
        'DeepLabV3+ R18': (
            'configs/baselines/deeplabv3plus_r18-d8_20k_bluemarble-768x768.py'
        ),
        'ISDNet': 'configs/isdnet/isdnet_r18_20k_bluemarble-768x768.py',
        'SGHRQ': 'configs/sghrq/sghrq_r18_20k_bluemarble-768x768.py',
        'HLRC': 'configs/hlrc/hlrc_swin-t_20k_bluemarble-768x768.py',
        'FCtL': 'configs/fctl/fctl-fpn_r18_20k_bluemarble-512x512.py',
        'LCF-ALE': 'configs/lcf_ale/lcf-ale-fpn_r18_20k_bluemarble-512x512.py',
        'STDC1': 'configs/baselines/stdc1_20k_bluemarble-768x768.py',
        'SegFormer-B0': (
            'configs/baselines/segformer_mit-b0_20k_bluemarble-768x768.py'
        ),
    },
}
