# The schedule is ours: that of the paper is not public.
_base_ = [
    '../_base_/models/hgn_r18.py',
    '../_base_/datasets/inria.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_40k.py',
]
model = dict(
    data_preprocessor=dict(size=(2000, 2000)),
    decode_head=dict(num_classes=2),
    auxiliary_head=[
        dict(head, num_classes=2) for head in _base_.model.auxiliary_head
    ],
    # A whole image is one window: the grafts see all of it.
    test_cfg=dict(mode='stream', crop_size=(5000, 5000), stride=(5000, 5000)),
)
train_dataloader = dict(batch_size=4)
