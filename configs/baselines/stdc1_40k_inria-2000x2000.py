# Ours: the schedule of the UHR networks that it is compared with.
_base_ = [
    '../_base_/models/stdc1.py',
    '../_base_/datasets/inria.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_40k.py',
]
_heads = _base_.model.auxiliary_head
model = dict(
    data_preprocessor=dict(size=(2000, 2000)),
    decode_head=dict(num_classes=2),
    # The detail head tells boundary from the rest, whatever the classes.
    auxiliary_head=[
        *[dict(head, num_classes=2) for head in _heads[:2]],
        _heads[2],
    ],
    # A whole image is one window, as it is for HGN.
    test_cfg=dict(mode='stream', crop_size=(5000, 5000), stride=(5000, 5000)),
)
train_dataloader = dict(batch_size=4)
