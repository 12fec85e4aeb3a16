# Ours: stock trains SegFormer on Cityscapes alone of these data sets. The
# optimiser is stock's; attention grows with the square of a window, so windows
# are no larger than crops.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/inria.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_40k_adamw.py',
]
model = dict(
    data_preprocessor=dict(size=(1024, 1024)),
    decode_head=dict(num_classes=2),
    test_cfg=dict(mode='stream', crop_size=(1024, 1024), stride=(768, 768)),
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(
        type='mmseg_uhr.RandomWindow',
        crop_size=(1024, 1024),
        class_balanced=0.5,
    ),
    dict(type='mmseg_uhr.ReadViews'),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='PhotoMetricDistortion'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
