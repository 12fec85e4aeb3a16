# The same network with a second step that refines its logits: our reading of
# FCtL's contextual semantics refinement, see docs/en/methods/fctl.md.
_base_ = ['fctl-fpn_r18-w16_5min_bluemarble-192x192.py']
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(return_image=True),
    neck=dict(hand_on=True),
    decode_head=dict(
        _delete_=True,
        type='mmseg_uhr.ContextRefinementHead',
        coarse=dict(
            type='FPNHead',
            in_channels=(64, 64, 64, 64),
            in_index=(0, 1, 2, 3),
            feature_strides=(4, 8, 16, 32),
            channels=32,
            dropout_ratio=0.0,
            norm_cfg=norm_cfg,
            loss_decode=dict(
                type='CrossEntropyLoss',
                use_sigmoid=False,
                avg_non_ignore=True,
                loss_weight=1.0,
            ),
        ),
        in_channels=64,
        channels=32,
        context_index=-2,
        image_index=-1,
        dropout_ratio=0.0,
        num_classes=10,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            avg_non_ignore=True,
            loss_weight=1.0,
        ),
    ),
)
