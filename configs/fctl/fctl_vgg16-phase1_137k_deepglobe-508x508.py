_base_ = [
    '../_base_/models/fctl_vgg16_fcn8s.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_fctl.py',
]
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.RandomWindow', crop_size=(508, 508)),
    dict(type='mmseg_uhr.ReadViews'),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
model = dict(decode_head=dict(num_classes=7))
train_dataloader = dict(batch_size=6, dataset=dict(pipeline=train_pipeline))
# Six images are 36 batches of six windows.
batches_per_step = 36
max_iters = 50 * 76 * batches_per_step
optim_wrapper = dict(
    optimizer=dict(weight_decay=5e-4 / batches_per_step),
    accumulative_counts=batches_per_step,
)
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=5 * 76 * batches_per_step)
