# The encoder of whole images: FCN-8s on images shrunk to 508 x 508.
_base_ = [
    '../_base_/models/fctl_vgg16_fcn8s.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_fctl.py',
]
views = dict(local=dict(size=(508, 508), resampling='pillow'))
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.RandomWindow', crop_size=(2448, 2448)),
    dict(type='mmseg_uhr.ReadViews', views=views),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
model = dict(
    views=views,
    decode_head=dict(num_classes=7),
    test_cfg=dict(crop_size=(2448, 2448), stride=(2448, 2448), batch_size=1),
)
train_dataloader = dict(batch_size=6, dataset=dict(pipeline=train_pipeline))
# A step per batch.
max_iters = 50 * 76
optim_wrapper = dict(
    optimizer=dict(weight_decay=5e-4),
    accumulative_counts=1,
)
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=5 * 76)
