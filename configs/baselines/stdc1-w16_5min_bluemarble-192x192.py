# A narrow stock STDC1 for two CPU cores.
_base_ = [
    '../_base_/models/stdc1.py',
    '../_base_/datasets/bluemarble_192x192.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_5min.py',
]
model = dict(
    data_preprocessor=dict(size=(192, 192)),
    backbone=dict(
        backbone_cfg=dict(channels=(16, 32, 64, 128, 256)),
        last_in_channels=(256, 128),
        out_channels=64,
        ffm_cfg=dict(in_channels=128, out_channels=64),
    ),
    decode_head=dict(
        in_channels=64, channels=64, dropout_ratio=0.0, num_classes=10
    ),
    auxiliary_head=[
        dict(
            _base_.model.auxiliary_head[0],
            in_channels=64,
            channels=32,
            num_classes=10,
        ),
        dict(
            _base_.model.auxiliary_head[1],
            in_channels=64,
            channels=32,
            num_classes=10,
        ),
        dict(_base_.model.auxiliary_head[2], in_channels=64, channels=32),
    ],
    test_cfg=dict(mode='stream', crop_size=(1215, 1080), stride=(1215, 1080)),
)
default_hooks = dict(logger=dict(interval=25))
