# The schedule is ours: that of the paper is not public.
_base_ = [
    '../_base_/models/hgn_r18.py',
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
    # A whole image is one window: the grafts see all of it.
    test_cfg=dict(mode='stream', crop_size=(5120, 5120), stride=(5120, 5120)),
)
train_dataloader = dict(batch_size=8)
