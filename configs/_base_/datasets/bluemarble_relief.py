# The same Earth and labels at twice the resolution, as a drawn relief map.
_base_ = ['bluemarble.py']
data_root = 'data/bluemarble_relief'
crop_size = (1536, 1536)
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(
        type='mmseg_uhr.RandomWindow', crop_size=crop_size, class_balanced=0.5
    ),
    dict(type='mmseg_uhr.ReadViews'),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='PhotoMetricDistortion'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
train_dataloader = dict(
    batch_size=2, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
