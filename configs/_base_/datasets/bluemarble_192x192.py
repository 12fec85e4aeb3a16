# For two CPU cores: batches of many small windows. Windows of one scene are
# alike, so a batch of few large ones gives batch norm strange statistics.
# Colours tell most of this land cover; they are not distorted.
_base_ = ['bluemarble.py']
crop_size = (192, 192)
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(
        type='mmseg_uhr.RandomWindow', crop_size=crop_size, class_balanced=0.7
    ),
    dict(type='mmseg_uhr.ReadViews'),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
train_dataloader = dict(
    batch_size=16, num_workers=1, dataset=dict(pipeline=train_pipeline)
)
