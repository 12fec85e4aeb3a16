# The authors' schedule.
_base_ = [
    '../_base_/models/hlrc_swin-t.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_160k_adamw.py',
]
crop_size = (1024, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=19, num_experts=8),
    auxiliary_head=[
        dict(head, num_classes=19) for head in _base_.model.auxiliary_head
    ],
    # A whole image is one window.
    test_cfg=dict(mode='stream', crop_size=(1024, 2048), stride=(1024, 2048)),
)
# Random scales need pixels around the crop: these images are small enough to
# be read as a whole and cropped as stock does.
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.ReadViews'),
    dict(
        type='RandomResize',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
train_dataloader = dict(batch_size=6, dataset=dict(pipeline=train_pipeline))
