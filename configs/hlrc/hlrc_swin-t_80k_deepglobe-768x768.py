# The authors' schedule and windows.
_base_ = [
    '../_base_/models/hlrc_swin-t.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_80k_adamw.py',
]
crop_size = (768, 768)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=7),
    auxiliary_head=[
        dict(head, num_classes=7) for head in _base_.model.auxiliary_head
    ],
    # Four windows of an image.
    test_cfg=dict(mode='stream', crop_size=(1408, 1408), stride=(1056, 1056)),
)
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.RandomWindow', crop_size=crop_size),
    dict(type='mmseg_uhr.ReadViews'),
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
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
# As the authors score: unknown pixels do not count.
val_evaluator = dict(protocol='deepglobe-6-ignore')
test_evaluator = val_evaluator
