# Ours: stock trains SegFormer on Cityscapes alone of these data sets. The
# optimiser is stock's; attention grows with the square of a window, so windows
# are no larger than crops.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/urur.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_160k_adamw.py',
]
model = dict(
    data_preprocessor=dict(size=(1280, 1280)),
    decode_head=dict(num_classes=8),
    test_cfg=dict(mode='stream', crop_size=(1280, 1280), stride=(960, 960)),
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
train_dataloader = dict(batch_size=8)
