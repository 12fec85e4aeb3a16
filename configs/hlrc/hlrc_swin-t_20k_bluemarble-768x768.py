# The data set is ours; the schedule is the authors', shortened.
_base_ = [
    '../_base_/models/hlrc_swin-t.py',
    '../_base_/datasets/bluemarble.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_20k_adamw.py',
]
model = dict(
    data_preprocessor=dict(size=(768, 768)),
    decode_head=dict(num_classes=10),
    auxiliary_head=[
        dict(head, num_classes=10) for head in _base_.model.auxiliary_head
    ],
    test_cfg=dict(mode='stream', crop_size=(1215, 1080), stride=(1215, 1080)),
)
train_dataloader = dict(batch_size=8)
