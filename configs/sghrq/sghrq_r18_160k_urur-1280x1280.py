# Ours: the authors' code has no URUR; the schedule is that of HGN's.
_base_ = [
    '../_base_/models/sghrq_r18.py',
    '../_base_/datasets/urur.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_160k.py',
]
model = dict(
    data_preprocessor=dict(size=(1280, 1280)),
    decode_head=dict(num_classes=8),
    auxiliary_head=[
        dict(head, num_classes=8) for head in _base_.model.auxiliary_head
    ],
    # The authors' windows for Inria: 25 of an image.
    test_cfg=dict(mode='stream', crop_size=(1280, 1280), stride=(960, 960)),
)
train_dataloader = dict(batch_size=8)
