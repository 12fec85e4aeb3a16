# A narrow SGHRQ for two CPU cores. A window's deep map has 6 x 6 cells, hence
# the small dilations.
_base_ = [
    '../_base_/models/sghrq_r18.py',
    '../_base_/datasets/bluemarble_192x192.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_5min.py',
]
_heads = _base_.model.auxiliary_head
model = dict(
    data_preprocessor=dict(size=(192, 192)),
    backbone=dict(
        shallow=dict(channels=(16, 32, 64, 128)),
        deep=dict(base_channels=32, stem_channels=32),
    ),
    neck=dict(in_channels=256, channels=32, dilations=(1, 2, 4)),
    decode_head=dict(
        in_channels=(64, 128, 256, 128),
        channels=64,
        class_channels=32,
        compress_channels=64,
        query_channels=(128, 64),
        num_classes=10,
    ),
    auxiliary_head=[
        dict(
            _heads[0],
            in_channels=128,
            channels=32,
            decoder_channels=(16, 16, 16),
            dropout_ratio=0.0,
            num_classes=10,
        ),
        dict(
            _heads[1],
            in_channels=128,
            channels=16,
            dropout_ratio=0.0,
            num_classes=10,
        ),
    ],
    test_cfg=dict(mode='stream', crop_size=(1215, 1080), stride=(1215, 1080)),
)
default_hooks = dict(logger=dict(interval=25))
