# The schedule is ours, as is the data set.
_base_ = [
    '../_base_/models/stdc1.py',
    '../_base_/datasets/bluemarble.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_20k.py',
]
model = dict(
    data_preprocessor=dict(size=(768, 768)),
    decode_head=dict(num_classes=10),
    auxiliary_head=[
        dict(_base_.model.auxiliary_head[0], num_classes=10),
        dict(_base_.model.auxiliary_head[1], num_classes=10),
        # The detail head tells boundary from the rest, whatever the classes.
        _base_.model.auxiliary_head[2],
    ],
    test_cfg=dict(mode='stream', crop_size=(2430, 1080), stride=(2430, 1080)),
)
train_dataloader = dict(batch_size=8)
