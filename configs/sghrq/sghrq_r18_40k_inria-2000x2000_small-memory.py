# Windows of less than half the memory, ours: the network sees 640 with stride
# 480; 64 of an image.
_base_ = ['sghrq_r18_40k_inria-2000x2000.py']
model = dict(
    test_cfg=dict(mode='stream', crop_size=(800, 800), stride=(600, 600))
)
