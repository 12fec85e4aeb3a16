# The same network without contexts, to see what they bring.
_base_ = ['fctl-fpn_r18-w16_5min_bluemarble-192x192.py']
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(
        type='mmseg_uhr.RandomWindow',
        crop_size=(192, 192),
        class_balanced=0.7,
    ),
    dict(type='mmseg_uhr.ReadViews'),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
model = dict(
    views=dict(_delete_=True),
    backbone=dict(contexts=(), share=False),
    neck=dict(fusion=None),
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
