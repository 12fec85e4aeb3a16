# The authors' protocol: 0.8 of the resolution. Their windows, 1280 with
# stride 960, are given in pixels of the files; 16 of an image.
_base_ = [
    '../_base_/models/sghrq_r18.py',
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
    test_cfg=dict(mode='stream', crop_size=(1600, 1600), stride=(1200, 1200)),
)
train_dataloader = dict(batch_size=4)
