# Ours: the schedule of the UHR networks that it is compared with.
_base_ = [
    '../_base_/models/deeplabv3plus_r18-d8.py',
    '../_base_/datasets/urur.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_160k.py',
]
model = dict(
    data_preprocessor=dict(size=(1280, 1280)),
    decode_head=dict(num_classes=8),
    auxiliary_head=dict(num_classes=8),
    # A whole image is one window, as it is for HGN.
    test_cfg=dict(mode='stream', crop_size=(5120, 5120), stride=(5120, 5120)),
)
train_dataloader = dict(batch_size=8)
