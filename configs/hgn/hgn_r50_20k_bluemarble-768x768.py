_base_ = './hgn_r18_20k_bluemarble-768x768.py'
model = dict(
    backbone=dict(deep=dict(depth=50), graft_channels=(512, 1024, 2048)),
    neck=dict(in_channels=(512, 1024, 2048)),
)
