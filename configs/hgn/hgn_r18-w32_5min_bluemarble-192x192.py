# HGN at half of its full widths, for two CPU cores: 0.7 of the operations of
# the narrow DeepLabV3+. Half of the labels of this data lie within two pixels
# of a boundary: the finest graft, at 1/4, is as wide as the others.
_base_ = ['hgn_r18-w16_5min_bluemarble-192x192.py']
model = dict(
    backbone=dict(
        shallow=dict(channels=(16, 32, 128, 256)),
        graft=dict(shallow_channels=256),
    ),
    decode_head=dict(
        in_channels=(32, 128, 256, 64),
        align_channels=(64, 64, 64),
        channels=64,
    ),
    auxiliary_head=[
        dict(_base_.model.auxiliary_head[0], in_channels=256),
    ],
)
