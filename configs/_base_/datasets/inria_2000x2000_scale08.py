# The protocol of ISDNet and its successors: Inria is seen at 0.8 of its
# resolution, in training and in testing. Windows are given in the pixels of
# the files; the network sees 2000 x 2000.
_base_ = ['inria.py']
crop_size = (2500, 2500)
views = dict(local=dict(scale=0.8))
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(
        type='mmseg_uhr.RandomWindow', crop_size=crop_size, class_balanced=0.5
    ),
    dict(type='mmseg_uhr.ReadViews', views=views),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='PhotoMetricDistortion'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
