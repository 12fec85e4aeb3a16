# FCtL's fusion between a shared ResNet-50 and a feature pyramid: one stage of
# training, ImageNet statistics, cross-entropy.
norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(
    type='mmseg_uhr.UHRDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
model = dict(
    type='mmseg_uhr.UHREncoderDecoder',
    data_preprocessor=data_preprocessor,
    views=dict(
        medium=dict(region=2, size=(512, 512)),
        large=dict(region=3, size=(512, 512)),
    ),
    backbone=dict(
        type='mmseg_uhr.LocalContextEncoder',
        local=dict(
            type='ResNetV1c',
            depth=50,
            strides=(1, 2, 2, 2),
            dilations=(1, 1, 1, 1),
            out_indices=(0, 1, 2, 3),
            norm_cfg=norm_cfg,
            norm_eval=False,
        ),
        contexts=('medium', 'large'),
        share=True,
    ),
    neck=dict(
        type='mmseg_uhr.ContextNeck',
        in_channels=(256, 512, 1024, 2048),
        channels=256,
        fusion=dict(
            type='mmseg_uhr.ContextFusion', contexts=('medium', 'large')
        ),
        neck=dict(type='FPN', out_channels=256, num_outs=4),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='FPNHead',
        in_channels=(256, 256, 256, 256),
        in_index=(0, 1, 2, 3),
        feature_strides=(4, 8, 16, 32),
        channels=128,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            avg_non_ignore=True,
            loss_weight=1.0,
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(
        mode='stream', crop_size=(512, 512), stride=(384, 384), batch_size=4
    ),
)
