# HLRC with two EfficientViT-B2 on the window and Swin-T + UPerNet on its
# quarter-size copy.
norm_cfg = dict(type='SyncBN', requires_grad=True)
# The authors never synchronise the batch norm of the fine branches.
local_norm_cfg = dict(type='BN', requires_grad=True)
data_preprocessor = dict(
    type='mmseg_uhr.UHRDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
trunk = dict(
    type='mmseg_uhr.EfficientViT',
    in_channels=3,
    widths=(24, 48, 96, 192),
    depths=(3, 4, 4),
    dim=32,
    norm_cfg=local_norm_cfg,
)
# Mean over all pixels, ignored ones included, as published.
loss_decode = dict(
    type='CrossEntropyLoss',
    use_sigmoid=False,
    avg_non_ignore=False,
    loss_weight=1.0,
)
model = dict(
    type='mmseg_uhr.UHREncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mmseg_uhr.DualResolutionEncoder',
        down=4,
        shrink='haar',
        return_image=True,
        shallow=dict(
            type='mmseg_uhr.ParallelEncoders',
            encoders=[
                # Regions: 1/16.
                dict(
                    trunk,
                    in_channels=9,
                    input_layer=dict(
                        type='mmseg_uhr.LaplacianInput',
                        num_levels=2,
                        keep_image=True,
                    ),
                    out_indices=(2,),
                ),
                # Local detail: 1/8 and 1/16.
                dict(trunk, out_indices=(1, 2)),
            ],
        ),
        deep=dict(
            type='SwinTransformer',
            embed_dims=96,
            depths=(2, 2, 6, 2),
            num_heads=(3, 6, 12, 24),
            window_size=7,
            mlp_ratio=4,
            qkv_bias=True,
            drop_path_rate=0.3,
            patch_norm=True,
            out_indices=(0, 1, 2, 3),
        ),
    ),
    # Hands on the three shallow maps, the third deep map, the tokens and the
    # window.
    neck=dict(
        type='mmseg_uhr.UPerNeck',
        in_channels=(96, 192, 384, 768),
        start=3,
        keep=(2,),
        channels=512,
        pool_scales=(1, 2, 3, 6),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='mmseg_uhr.HLRCHead',
        in_channels=(192, 96, 192, 512),
        in_index=(0, 1, 2, 4),
        channels=32,
        num_experts=16,
        top_k=2,
        context_channels=96,
        num_classes=19,
        norm_cfg=norm_cfg,
        local_norm_cfg=local_norm_cfg,
        align_corners=False,
        loss_decode=loss_decode,
        loss_balance=dict(type='mmseg_uhr.LoadBalanceLoss', loss_weight=0.01),
    ),
    auxiliary_head=[
        dict(
            type='mmseg_uhr.SuperResolutionHead',
            in_channels=512,
            in_index=4,
            channels=512,
            num_convs=0,
            concat_input=False,
            reduce_channels=128,
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
            in_channels=384,
            in_index=3,
            channels=256,
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
