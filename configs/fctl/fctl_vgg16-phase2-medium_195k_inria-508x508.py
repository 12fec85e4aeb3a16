_base_ = [
    '../_base_/models/fctl_vgg16_siamese.py',
    '../_base_/datasets/inria.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_fctl.py',
]
views = dict(medium=dict(region=2, size=(508, 508), resampling='pillow'))
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.RandomWindow', crop_size=(508, 508)),
    dict(type='mmseg_uhr.ReadViews', views=views),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
model = dict(views=views)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
# The authors' schedule is of 100 epochs and begins with the 50th.
batches_per_step = 186
max_iters = 50 * 21 * batches_per_step
optim_wrapper = dict(
    optimizer=dict(lr=5e-5 * 0.5**0.9, weight_decay=5e-4 / batches_per_step),
    accumulative_counts=batches_per_step,
)
param_scheduler = [dict(_base_.param_scheduler[0], end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=5 * 21 * batches_per_step)
# Phase 1.
load_from = 'work_dirs/fctl_vgg16-phase1_132k_inria-508x508/iter_132300.pth'
