_base_ = [
    '../_base_/models/fctl_vgg16_siamese.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_fctl.py',
]
views = dict(medium=dict(region=3, size=(508, 508), resampling='pillow'))
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.RandomWindow', crop_size=(508, 508)),
    dict(type='mmseg_uhr.ReadViews', views=views),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
model = dict(
    views=views,
    decode_head=dict(num_classes=7, fusion=dict(center=True)),
)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
# Phase 1.
load_from = (
    'work_dirs/fctl_vgg16-phase1_137k_deepglobe-508x508/iter_136800.pth'
)
