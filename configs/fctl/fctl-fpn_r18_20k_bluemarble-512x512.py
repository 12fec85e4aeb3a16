# The network and its schedule are ours; the authors' are those of
# fctl_vgg16-*.py.
_base_ = [
    '../_base_/models/fctl-fpn_r18.py',
    '../_base_/datasets/bluemarble.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_20k.py',
]
crop_size = (512, 512)
views = dict(
    medium=dict(region=2, size=crop_size),
    large=dict(region=3, size=crop_size),
)
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(
        type='mmseg_uhr.RandomWindow', crop_size=crop_size, class_balanced=0.5
    ),
    dict(type='mmseg_uhr.ReadViews', views=views),
    dict(type='mmseg_uhr.RandomD4'),
    dict(
        type='mmseg_uhr.ForEachView',
        transforms=[dict(type='PhotoMetricDistortion')],
    ),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
model = dict(
    data_preprocessor=dict(size=crop_size),
    views=views,
    decode_head=dict(num_classes=10),
)
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
