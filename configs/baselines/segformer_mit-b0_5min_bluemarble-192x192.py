# Stock SegFormer-B0 with a narrow head, for two CPU cores. Attention grows
# with the square of a window: windows twice as large as the crops.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/bluemarble_192x192.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_5min.py',
]
model = dict(
    data_preprocessor=dict(size=(192, 192)),
    # No stochastic depth: five minutes do not overfit.
    backbone=dict(drop_path_rate=0.0),
    decode_head=dict(channels=64, dropout_ratio=0.0, num_classes=10),
    test_cfg=dict(
        mode='stream', crop_size=(384, 384), stride=(288, 288), batch_size=4
    ),
)
# The head learns faster than an attention network bears from scratch.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.3)})
)
default_hooks = dict(logger=dict(interval=25))
