# LCF-ALE as we read it, on a feature pyramid. The schedule is ours.
_base_ = [
    '../fctl/fctl-fpn_r18_80k_deepglobe-512x512.py',
    '../_base_/models/lcf-ale_fusion.py',
]
model = dict(
    neck=dict(
        fusion=dict(
            _base_.lcf_ale_fusion,
            geometry=dict(
                # Of the whole image: 2448 / 512, where the box is not known.
                scales=dict(medium=3, large=4.78),
                grid=dict(stride=32, side=(512, 512)),
            ),
        )
    )
)
