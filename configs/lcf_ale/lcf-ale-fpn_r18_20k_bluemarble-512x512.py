# LCF-ALE as we read it, on a feature pyramid.
_base_ = ['../fctl/fctl-fpn_r18_20k_bluemarble-512x512.py']
model = dict(
    neck=dict(
        fusion=dict(
            # Position k of a ResNet's last map is centred on pixel 32 k.
            geometry=dict(
                scales=dict(medium=2, large=3),
                grid=dict(stride=32, side=(512, 512)),
            ),
            position=dict(slope=1.0, gate=-4.0),
            enhancement=dict(type='mmseg_uhr.LocalEnhancement'),
        )
    )
)
