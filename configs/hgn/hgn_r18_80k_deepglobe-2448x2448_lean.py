# Whole images within 8 GiB: two of them have the pixels of eight crops. The
# schedule is ours.
_base_ = [
    '../_base_/models/hgn_r18_lean.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_80k.py',
]
crop_size = (2448, 2448)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=7),
    auxiliary_head=[
        dict(head, num_classes=7) for head in _base_.model.auxiliary_head
    ],
    test_cfg=dict(stripe_rows=512),
)
train_pipeline = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.RandomWindow', crop_size=crop_size),
    dict(type='mmseg_uhr.ReadViews'),
    dict(type='mmseg_uhr.RandomD4'),
    dict(type='PhotoMetricDistortion'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
custom_hooks = [
    dict(type='mmseg_uhr.MemoryBudgetHook', budget='8GiB', policy='cap')
]
