# A narrow ISDNet for two CPU cores. Land cover is a matter of colour, which
# residuals do not tell: the shallow network sees the image as well.
_base_ = [
    '../_base_/models/isdnet_r18.py',
    '../_base_/datasets/bluemarble_192x192.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_5min.py',
]
_heads = _base_.model.auxiliary_head
model = dict(
    data_preprocessor=dict(size=(192, 192)),
    backbone=dict(
        shallow=dict(
            channels=(16, 32, 64, 128),
            in_channels=9,
            input_layer=dict(keep_image=True),
        ),
        deep=dict(base_channels=32, stem_channels=32),
    ),
    neck=dict(
        shallow_channels=(64, 128),
        deep_channels=256,
        channels=64,
        dilations=(1, 2, 4),
        groups=8,
        dropout_ratio=0.0,
    ),
    decode_head=dict(in_channels=64, channels=32, num_classes=10),
    auxiliary_head=[
        dict(
            _heads[0],
            in_channels=64,
            channels=64,
            decoder_channels=(16, 16, 16),
            dropout_ratio=0.0,
            num_classes=10,
        ),
        dict(_heads[1], in_channels=64, channels=16, num_classes=10),
    ],
    test_cfg=dict(mode='stream', crop_size=(1215, 1080), stride=(1215, 1080)),
)
default_hooks = dict(logger=dict(interval=25))
