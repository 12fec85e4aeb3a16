# FCtL on VGG-16 and FCN-8s: the window and two contexts of it. Pixels are
# divided by 255, nothing else.
data_preprocessor = dict(
    type='mmseg_uhr.UHRDataPreProcessor',
    mean=[0.0, 0.0, 0.0],
    std=[255.0, 255.0, 255.0],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(508, 508),
)
model = dict(
    type='mmseg_uhr.UHREncoderDecoder',
    data_preprocessor=data_preprocessor,
    views=dict(
        medium=dict(region=2, size=(508, 508), resampling='pillow'),
        large=dict(region=3, size=(508, 508), resampling='pillow'),
    ),
    backbone=dict(
        type='mmseg_uhr.LocalContextEncoder',
        local=dict(type='mmseg_uhr.VGGFCN'),
        contexts=dict(
            medium=dict(type='mmseg_uhr.VGGFCN'),
            large=dict(type='mmseg_uhr.VGGFCN'),
        ),
        # Trained in phase 2.
        frozen=True,
    ),
    decode_head=dict(
        type='mmseg_uhr.FCN8sHead',
        in_channels=(256, 512, 512),
        in_index=(0, 1, 2),
        channels=4096,
        dropout_ratio=0.5,
        fusion=dict(
            type='mmseg_uhr.ContextFusion',
            channels=512,
            contexts=('medium', 'large'),
        ),
        num_classes=2,
        loss_decode=dict(type='mmseg_uhr.SoftmaxFocalLoss', gamma=3.0),
    ),
    train_cfg=dict(),
    # Windows overlap by 50 pixels or more: 6 x 6 in 2448 pixels, 11 x 11 in
    # 5000.
    test_cfg=dict(
        mode='stream',
        crop_size=(508, 508),
        stride=(458, 458),
        placement='even',
        batch_size=4,
    ),
)
