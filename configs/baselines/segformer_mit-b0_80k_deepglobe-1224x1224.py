# Ours: stock trains SegFormer on Cityscapes alone of these data sets. The
# optimiser is stock's; attention grows with the square of a window, so windows
# are no larger than crops.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_80k_adamw.py',
]
model = dict(
    data_preprocessor=dict(size=(1224, 1224)),
    decode_head=dict(num_classes=7),
    test_cfg=dict(mode='stream', crop_size=(1224, 1224), stride=(918, 918)),
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
train_dataloader = dict(batch_size=8)
