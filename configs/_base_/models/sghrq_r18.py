# SGHRQ: STDC1 without its last stage on the window and its high-pass
# residuals, ResNet-18 at output stride 8 on every fourth pixel.
norm_cfg = dict(type='BN', requires_grad=True)
data_preprocessor = dict(
    type='mmseg_uhr.UHRDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
# The paper's losses are means over all pixels, ignored ones included.
loss_decode = dict(
    type='CrossEntropyLoss',
    use_sigmoid=False,
    avg_non_ignore=False,
    loss_weight=1.0,
)
model = dict(
    type='mmseg_uhr.UHREncoderDecoder',
    data_preprocessor=data_preprocessor,
    # Maps: F8, F16 (shallow), c3, c4 (deep), the window.
    backbone=dict(
        type='mmseg_uhr.DualResolutionEncoder',
        down=4,
        shrink='nearest',
        shallow=dict(
            type='mmseg_uhr.ShallowSTDC',
            stdc_type='STDCNet1',
            in_channels=9,
            channels=(32, 64, 256, 512),
            input_layer=dict(
                type='mmseg_uhr.LaplacianInput', num_levels=2, keep_image=True
            ),
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
    # Puts the pyramid of c4, 5 x 128 channels, between c4 and the window.
    neck=dict(
        type='mmseg_uhr.ASPPNeck',
        in_channels=512,
        channels=128,
        dilations=(1, 12, 24, 36),
        index=3,
        bottleneck=False,
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='mmseg_uhr.SGHRQHead',
        in_channels=(256, 512, 512, 640),
        in_index=(0, 1, 3, 4),
        channels=256,
        class_channels=64,
        compress_channels=256,
        query_channels=(512, 256),
        num_frequencies=6,
        max_frequency=64.0,
        momentum=0.1,
        sync='mean',
        dropout_ratio=0.0,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=loss_decode,
    ),
    auxiliary_head=[
        # DeepLabV3's bottleneck and coarse prediction, super-resolution and
        # affinity.
        dict(
            type='mmseg_uhr.SuperResolutionHead',
            in_channels=640,
            in_index=4,
            image_index=5,
            channels=128,
            num_convs=1,
            kernel_size=3,
            concat_input=False,
            num_levels=2,
            dropout_ratio=0.1,
            num_classes=19,
            norm_cfg=norm_cfg,
            align_corners=False,
            loss_decode=loss_decode,
            loss_recon=dict(
                type='mmseg_uhr.ReconstructionLoss', loss_weight=0.1
            ),
            loss_affinity=dict(
                type='mmseg_uhr.FeatureAffinityLoss', loss_weight=1.0
            ),
        ),
        dict(
            type='FCNHead',
            in_channels=256,
            in_index=2,
            channels=64,
            num_convs=1,
            concat_input=False,
            dropout_ratio=0.1,
            num_classes=19,
            norm_cfg=norm_cfg,
            align_corners=False,
            loss_decode=dict(loss_decode, loss_weight=0.4),
        ),
    ],
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
