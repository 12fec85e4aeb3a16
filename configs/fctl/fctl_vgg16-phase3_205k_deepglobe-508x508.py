# Phase 3; phases 1 and 2 have trained what is loaded here.
_base_ = [
    '../_base_/models/fctl_vgg16.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_fctl.py',
]
views = dict(
    medium=dict(region=3, size=(508, 508), resampling='pillow'),
    large=dict(region='scene', size=(508, 508), resampling='pillow'),
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
    'work_dirs/fctl_vgg16-phase2-medium_205k_deepglobe-508x508/iter_205200.pth'
)
large = 'work_dirs/fctl_vgg16-phase2-large_4k_deepglobe-508x508/iter_3800.pth'
trained = dict(type='Pretrained', prefix='backbone.local.')
model = dict(
    views=views,
    backbone=dict(
        contexts=dict(
            medium=dict(init_cfg=dict(trained, checkpoint=medium)),
            large=dict(init_cfg=dict(trained, checkpoint=large)),
        ),
    ),
    decode_head=dict(num_classes=7, fusion=dict(center=True)),
)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
load_from = (
    'work_dirs/fctl_vgg16-phase1_137k_deepglobe-508x508/iter_136800.pth'
)
