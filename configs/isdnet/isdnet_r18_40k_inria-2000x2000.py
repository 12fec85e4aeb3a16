# The published protocol: 0.8 of the resolution, a whole image is one window.
_base_ = [
    '../_base_/models/isdnet_r18.py',
    '../_base_/datasets/inria_2000x2000_scale08.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_40k.py',
]
model = dict(
    data_preprocessor=dict(size=(2000, 2000)),
    views=_base_.views,
    decode_head=dict(num_classes=2),
    auxiliary_head=[
        dict(head, num_classes=2) for head in _base_.model.auxiliary_head
    ],
    test_cfg=dict(mode='stream', crop_size=(5000, 5000), stride=(5000, 5000)),
)
train_dataloader = dict(batch_size=4)
