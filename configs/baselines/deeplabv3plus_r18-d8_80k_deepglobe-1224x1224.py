# Ours: the schedule of the UHR networks that it is compared with.
_base_ = [
    '../_base_/models/deeplabv3plus_r18-d8.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_80k.py',
]
model = dict(
    data_preprocessor=dict(size=(1224, 1224)),
    decode_head=dict(num_classes=7),
    auxiliary_head=dict(num_classes=7),
    # A whole image is one window, as it is for HGN.
    test_cfg=dict(mode='stream', crop_size=(2448, 2448), stride=(2448, 2448)),
)
train_dataloader = dict(batch_size=8)
