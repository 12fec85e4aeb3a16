# The schedule is ours: that of the paper is not public.
_base_ = [
    '../_base_/models/hgn_r18.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_80k.py',
]
model = dict(
    data_preprocessor=dict(size=(1224, 1224)),
    decode_head=dict(num_classes=7),
    auxiliary_head=[
        dict(_base_.model.auxiliary_head[0], num_classes=7),
        # 'unknown' is trained as a class, but it looks like nothing.
        dict(
            _base_.model.auxiliary_head[1], num_classes=7, exclude_classes=(0,)
        ),
    ],
    # A whole image is one window: the grafts see all of it.
    test_cfg=dict(mode='stream', crop_size=(2448, 2448), stride=(2448, 2448)),
)
train_dataloader = dict(batch_size=8)
