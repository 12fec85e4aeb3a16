# Ours: the authors' code has no URUR; the schedule is that of HGN's.
_base_ = [
    '../_base_/models/isdnet_r18.py',
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
    # A whole image is one window.
    test_cfg=dict(mode='stream', crop_size=(5120, 5120), stride=(5120, 5120)),
)
train_dataloader = dict(batch_size=8)
