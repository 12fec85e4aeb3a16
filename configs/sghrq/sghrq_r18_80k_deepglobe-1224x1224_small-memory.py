# Windows of a third of the memory, ours: 25 of an image. A multiple of 32,
# and three quarters of it from one to the next, as the authors do.
_base_ = ['sghrq_r18_80k_deepglobe-1224x1224.py']
model = dict(
    test_cfg=dict(mode='stream', crop_size=(640, 640), stride=(480, 480))
)
