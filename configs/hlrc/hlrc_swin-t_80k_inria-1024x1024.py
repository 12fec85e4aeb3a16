# At 0.8 of the resolution, in training and testing, as published: crops of
# 1280 pixels seen as 1024, windows of 1600 seen as 1280.
_base_ = [
    '../_base_/models/hlrc_swin-t.py',
    '../_base_/datasets/inria.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_80k_adamw.py',
]
views = dict(local=dict(scale=0.8))
# On this data the authors train without the super-resolution branch.
token_head = dict(
    type='FCNHead',
    in_channels=512,
    in_index=4,
    channels=512,
    num_convs=0,
    concat_input=False,
    dropout_ratio=0.1,
    num_classes=2,
    norm_cfg=_base_.norm_cfg,
    align_corners=False,
    loss_decode=_base_.loss_decode,
)
model = dict(
    data_preprocessor=dict(size=(1024, 1024)),
    views=views,
    decode_head=dict(num_classes=2, num_experts=8),
    auxiliary_head=[
        token_head,
        dict(_base_.model.auxiliary_head[1], num_classes=2),
    ],
    test_cfg=dict(mode='stream', crop_size=(1600, 1600), stride=(1200, 1200)),
)
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.RandomWindow', crop_size=(1280, 1280)),
    dict(type='mmseg_uhr.ReadViews', views=views),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomRotate',
        prob=0.5,
        degree=(90.0, 270.0),
        pad_val=0,
        seg_pad_val=255,
    ),
    dict(type='PhotoMetricDistortion'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
train_dataloader = dict(batch_size=6, dataset=dict(pipeline=train_pipeline))
