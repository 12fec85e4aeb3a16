# Ours: the schedule of the UHR networks that it is compared with.
_base_ = [
    '../_base_/models/stdc1.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_160k.py',
]
_heads = _base_.model.auxiliary_head
model = dict(
    data_preprocessor=dict(size=(1024, 1024)),
    decode_head=dict(num_classes=19),
    # The detail head tells boundary from the rest, whatever the classes.
    auxiliary_head=[
        *[dict(head, num_classes=19) for head in _heads[:2]],
        _heads[2],
    ],
    # A whole image is one window, as it is for HGN.
    test_cfg=dict(mode='stream', crop_size=(1024, 2048), stride=(1024, 2048)),
)
train_dataloader = dict(batch_size=8)
