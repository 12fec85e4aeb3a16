_base_ = ['fctl-fpn_r50.py']
model = dict(
    backbone=dict(local=dict(depth=18)),
    neck=dict(in_channels=(64, 128, 256, 512)),
)
