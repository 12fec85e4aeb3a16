# What LCF-ALE, as we read it, adds to FCtL's fusion on a feature pyramid.
lcf_ale_fusion = dict(
    # Position k of a ResNet's last map is centred on pixel 32 k.
    geometry=dict(
        scales=dict(medium=2, large=3),
        grid=dict(stride=32, side=(512, 512)),
    ),
    position=dict(slope=1.0, gate=-4.0),
    enhancement=dict(type='mmseg_uhr.LocalEnhancement'),
)
