# A narrow HLRC for two CPU cores.
_base_ = [
    '../_base_/models/hlrc_swin-t.py',
    '../_base_/datasets/bluemarble_192x192.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_5min.py',
]
_encoders = _base_.model.backbone.shallow.encoders
_trunk = dict(widths=(8, 16, 24, 48), depths=(1, 1, 1), expand=2, dim=16)
model = dict(
    data_preprocessor=dict(size=(192, 192)),
    backbone=dict(
        shallow=dict(encoders=[dict(one, **_trunk) for one in _encoders]),
        # No stochastic depth: five minutes do not overfit.
        deep=dict(
            embed_dims=32,
            depths=(2, 2, 2, 2),
            num_heads=(1, 2, 4, 8),
            drop_path_rate=0.0,
        ),
    ),
    # The coarsest map of a crop has 2 x 2 positions.
    neck=dict(in_channels=(32, 64, 128, 256), channels=64, pool_scales=(1, 2)),
    decode_head=dict(
        in_channels=(48, 24, 48, 64),
        channels=32,
        num_experts=4,
        context_channels=48,
        # The published one takes thousands of iterations to wake up.
        small_init=False,
        num_classes=10,
    ),
    # One auxiliary head, as the baseline has: drawing the window again would
    # double the time of an iteration on a CPU.
    auxiliary_head=[
        dict(
            _base_.model.auxiliary_head[1],
            in_channels=64,
            in_index=4,
            channels=64,
            num_convs=0,
            dropout_ratio=0.0,
            num_classes=10,
        ),
    ],
    # Pooled maps and linear attention see a window as a whole: windows twice
    # as large as the crops, as published; much larger ones are misread.
    test_cfg=dict(
        mode='stream', crop_size=(384, 384), stride=(288, 288), batch_size=4
    ),
)
# The fine networks and the decoder learn faster than an attention network
# bears from scratch.
optim_wrapper = dict(
    optimizer=dict(lr=1e-2),
    paramwise_cfg=dict(custom_keys={'backbone.deep': dict(lr_mult=0.3)}),
)
default_hooks = dict(logger=dict(interval=25))
