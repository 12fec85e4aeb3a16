# Ours: the schedule of the UHR networks that it is compared with.
_base_ = [
    '../_base_/models/deeplabv3plus_r18-d8.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_160k.py',
]
model = dict(
    data_preprocessor=dict(size=(1024, 1024)),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
    # A whole image is one window, as it is for HGN.
    test_cfg=dict(mode='stream', crop_size=(1024, 2048), stride=(1024, 2048)),
)
train_dataloader = dict(batch_size=8)
