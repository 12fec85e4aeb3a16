# A narrow FCtL for two CPU cores: windows of 192 pixels and, at a third of
# the resolution, what lies around them.
_base_ = [
    '../_base_/models/fctl-fpn_r18.py',
    '../_base_/datasets/bluemarble_192x192.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_5min.py',
]
views = dict(large=dict(region=3, size=(192, 192)))
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(
        type='mmseg_uhr.RandomWindow',
        crop_size=(192, 192),
        class_balanced=0.7,
    ),
    dict(type='mmseg_uhr.ReadViews', views=views),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
model = dict(
    data_preprocessor=dict(size=(192, 192)),
    views=dict(_delete_=True, **views),
    backbone=dict(
        local=dict(base_channels=16, stem_channels=16), contexts=('large',)
    ),
    neck=dict(
        in_channels=(16, 32, 64, 128),
        channels=64,
        fusion=dict(contexts=('large',)),
        neck=dict(out_channels=64),
    ),
    decode_head=dict(
        in_channels=(64, 64, 64, 64),
        channels=32,
        dropout_ratio=0.0,
        num_classes=10,
    ),
    test_cfg=dict(crop_size=(192, 192), stride=(144, 144), batch_size=8),
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(logger=dict(interval=25))
