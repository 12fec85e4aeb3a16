# A narrow stock DeepLabV3+ for two CPU cores.
_base_ = [
    '../_base_/models/deeplabv3plus_r18-d8.py',
    '../_base_/datasets/bluemarble_192x192.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_5min.py',
]
model = dict(
    data_preprocessor=dict(size=(192, 192)),
    backbone=dict(base_channels=16, stem_channels=16),
    decode_head=dict(
        in_channels=128,
        channels=64,
        c1_in_channels=16,
        dropout_ratio=0.0,
        num_classes=10,
    ),
    auxiliary_head=dict(in_channels=64, channels=32, num_classes=10),
    test_cfg=dict(mode='stream', crop_size=(1215, 1080), stride=(1215, 1080)),
)
default_hooks = dict(logger=dict(interval=25))
