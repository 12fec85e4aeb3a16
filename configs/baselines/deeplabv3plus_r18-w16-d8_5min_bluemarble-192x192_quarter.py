# The usual way out: scenes are seen whole, at a quarter of their resolution,
# and so are windows of 768 pixels in training. The network sees 192 x 192.
_base_ = ['deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192.py']
views = dict(local=dict(scale=0.25))
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(
        type='mmseg_uhr.RandomWindow',
        crop_size=(768, 768),
        class_balanced=0.7,
    ),
    dict(type='mmseg_uhr.ReadViews', views=views),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
model = dict(
    views=views,
    test_cfg=dict(crop_size=(2430, 1080), stride=(2430, 1080)),
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
