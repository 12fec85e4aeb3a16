# Phase 3; phases 1 and 2 have trained what is loaded here.
_base_ = [
    '../_base_/models/fctl_vgg16.py',
    '../_base_/datasets/inria.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_fctl.py',
]
views = dict(
    medium=dict(region=2, size=(508, 508), resampling='pillow'),
    large=dict(region=3, size=(508, 508), resampling='pillow'),
)
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.RandomWindow', crop_size=(508, 508)),
    dict(type='mmseg_uhr.ReadViews', views=views),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
medium = (
    'work_dirs/fctl_vgg16-phase2-medium_195k_inria-508x508/iter_195300.pth'
)
large = 'work_dirs/fctl_vgg16-phase2-large_195k_inria-508x508/iter_195300.pth'
trained = dict(type='Pretrained', prefix='backbone.local.')
model = dict(
    views=views,
    backbone=dict(
        contexts=dict(
            medium=dict(init_cfg=dict(trained, checkpoint=medium)),
            large=dict(init_cfg=dict(trained, checkpoint=large)),
        ),
    ),
    decode_head=dict(
        fusion=dict(init_cfg=dict(type='Normal', layer='Conv2d', std=0.01))
    ),
)
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
# The window's encoder, the decoder and one correlation start from there.
load_from = medium
