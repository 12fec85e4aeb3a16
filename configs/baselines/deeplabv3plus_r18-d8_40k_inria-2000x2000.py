# Ours: the schedule of the UHR networks that it is compared with.
_base_ = [
    '../_base_/models/deeplabv3plus_r18-d8.py',
    '../_base_/datasets/inria.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_40k.py',
]
model = dict(
    data_preprocessor=dict(size=(2000, 2000)),
    decode_head=dict(num_classes=2),
    auxiliary_head=dict(num_classes=2),
    # A whole image is one window, as it is for HGN.
    test_cfg=dict(mode='stream', crop_size=(5000, 5000), stride=(5000, 5000)),
)
train_dataloader = dict(batch_size=4)
