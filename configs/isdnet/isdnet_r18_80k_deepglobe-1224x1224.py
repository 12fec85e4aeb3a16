# The authors' schedule, tested at full resolution.
_base_ = [
    '../_base_/models/isdnet_r18.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_80k.py',
]
model = dict(
    data_preprocessor=dict(size=(1224, 1224)),
    decode_head=dict(num_classes=7),
    auxiliary_head=[
        dict(head, num_classes=7) for head in _base_.model.auxiliary_head
    ],
    # A whole image is one window.
    test_cfg=dict(mode='stream', crop_size=(2448, 2448), stride=(2448, 2448)),
)
train_dataloader = dict(batch_size=8)
