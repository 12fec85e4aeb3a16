# LCF-ALE as we read it, on a narrow feature pyramid for two CPU cores.
_base_ = ['../fctl/fctl-fpn_r18-w16_5min_bluemarble-192x192.py']
model = dict(
    neck=dict(
        fusion=dict(
            # Position k of a ResNet's last map is centred on pixel 32 k.
            geometry=dict(
                scales=dict(large=3), grid=dict(stride=32, side=(192, 192))
            ),
            position=dict(slope=1.0, gate=-4.0),
            enhancement=dict(type='mmseg_uhr.LocalEnhancement'),
        )
    )
)
