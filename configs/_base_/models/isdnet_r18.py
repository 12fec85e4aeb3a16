# ISDNet with STDC1 on Laplacian residuals of the window and a dilated
# ResNet-18 on its quarter-size copy.
norm_cfg = dict(type='SyncBN', requires_grad=True)
# The published losses are means over all pixels, ignored ones included.
loss = dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=False)
data_preprocessor = dict(
    type='mmseg_uhr.UHRDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
head = dict(
    type='FCNHead',
    in_channels=128,
    channels=64,
    num_convs=1,
    concat_input=False,
    dropout_ratio=0.0,
    num_classes=19,
    norm_cfg=norm_cfg,
    align_corners=False,
    loss_decode=dict(loss, loss_weight=1.0),
)
model = dict(
    type='mmseg_uhr.UHREncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mmseg_uhr.DualResolutionEncoder',
        down=4,
        shrink='nearest',
        shallow=dict(
            type='mmseg_uhr.ShallowSTDC',
            stdc_type='STDCNet1',
            in_channels=6,
            input_layer=dict(type='mmseg_uhr.LaplacianInput', num_levels=2),
            channels=(32, 64, 256, 512),
            norm_cfg=norm_cfg,
        ),
        deep=dict(
            type='ResNetV1c',
            depth=18,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            contract_dilation=True,
            out_indices=(2, 3),
            norm_cfg=norm_cfg,
            norm_eval=False,
        ),
        return_image=True,
    ),
    # Returns the fused map, the two enlarged deep maps, the context, the
    # deep map of stage 3, that of stage 4, and the window.
    neck=dict(
        type='mmseg_uhr.ISDNeck',
        shallow_channels=(256, 512),
        deep_channels=512,
        channels=128,
        dilations=(1, 12, 24, 36),
        dropout_ratio=0.1,
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(head, in_index=0),
    auxiliary_head=[
        dict(
            head,
            type='mmseg_uhr.SuperResolutionHead',
            in_index=3,
            channels=128,
            num_convs=0,
            dropout_ratio=0.1,
            loss_recon=dict(
                type='mmseg_uhr.ReconstructionLoss', loss_weight=0.1
            ),
            loss_affinity=dict(
                type='mmseg_uhr.FeatureAffinityLoss', loss_weight=1.0
            ),
        ),
        dict(head, in_index=1),
        dict(head, in_index=2),
        dict(
            head,
            in_index=4,
            in_channels=256,
            dropout_ratio=0.1,
            loss_decode=dict(loss, loss_weight=0.4),
        ),
    ],
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
