# A narrow HGN for two CPU cores. Half of the labels of this data lie within
# two pixels of a boundary, hence the third shallow map, at 1/4.
_base_ = [
    '../_base_/models/hgn_r18.py',
    '../_base_/datasets/bluemarble_192x192.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_5min.py',
]
model = dict(
    data_preprocessor=dict(size=(192, 192)),
    backbone=dict(
        shallow=dict(channels=(16, 32, 64, 128), out_indices=(1, 2, 3)),
        deep=dict(base_channels=32, stem_channels=32),
        graft=dict(shallow_channels=128, channels=64, num_descriptors=32),
        graft_channels=(64, 128, 256),
    ),
    neck=dict(in_channels=(64, 128, 256), channels=64),
    decode_head=dict(
        in_channels=(32, 64, 128, 64),
        in_index=(0, 1, 2, 3),
        align_channels=(32, 64, 64),
        channels=32,
        dropout_ratio=0.0,
        num_classes=10,
    ),
    # One auxiliary head, as the baseline has; full-size losses are a third of
    # the time on a CPU.
    auxiliary_head=[
        dict(
            _base_.model.auxiliary_head[1],
            in_channels=128,
            in_index=2,
            deep_index=3,
            embed_channels=64,
            channels=32,
            num_classes=10,
        ),
    ],
    test_cfg=dict(mode='stream', crop_size=(1215, 1080), stride=(1215, 1080)),
)
default_hooks = dict(logger=dict(interval=25))
