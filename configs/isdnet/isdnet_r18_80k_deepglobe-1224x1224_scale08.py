# The protocol of the published numbers: trained at full resolution, tested at
# 0.8 of it (1958 x 1958); the logits are resized back.
_base_ = ['isdnet_r18_80k_deepglobe-1224x1224.py']
model = dict(views=dict(local=dict(scale=0.8)))
