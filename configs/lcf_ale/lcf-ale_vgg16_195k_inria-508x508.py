# LCF-ALE as we read it: phase 3 of FCtL with more in its fusion.
_base_ = ['../fctl/fctl_vgg16-phase3_195k_inria-508x508.py']
model = dict(
    decode_head=dict(
        fusion=dict(
            geometry=dict(
                scales=dict(medium=2, large=3),
                grid=dict(stride=32, offset=-83.5, side=(508, 508)),
            ),
            position=dict(slope=1.0, gate=-4.0),
            enhancement=dict(type='mmseg_uhr.LocalEnhancement'),
        )
    )
)
