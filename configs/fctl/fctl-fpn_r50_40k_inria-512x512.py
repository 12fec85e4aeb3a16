_base_ = './fctl-fpn_r18_40k_inria-512x512.py'
model = dict(
    backbone=dict(local=dict(depth=50)),
    neck=dict(in_channels=(256, 512, 1024, 2048)),
)
