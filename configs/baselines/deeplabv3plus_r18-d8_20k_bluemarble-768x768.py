# The schedule is ours, as is the data set.
_base_ = [
    '../_base_/models/deeplabv3plus_r18-d8.py',
    '../_base_/datasets/bluemarble.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_20k.py',
]
model = dict(
    data_preprocessor=dict(size=(768, 768)),
    decode_head=dict(num_classes=10),
    auxiliary_head=dict(num_classes=10),
    test_cfg=dict(mode='stream', crop_size=(2430, 1080), stride=(2430, 1080)),
)
train_dataloader = dict(batch_size=8)
