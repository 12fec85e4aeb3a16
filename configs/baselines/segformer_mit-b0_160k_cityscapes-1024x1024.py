# Stock's schedule, crops and windows; warm-up and decay overlap.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_160k_adamw.py',
]
model = dict(
    data_preprocessor=dict(size=(1024, 1024)),
    decode_head=dict(num_classes=19),
    test_cfg=dict(mode='stream', crop_size=(1024, 1024), stride=(768, 768)),
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
train_dataloader = dict(batch_size=8)
