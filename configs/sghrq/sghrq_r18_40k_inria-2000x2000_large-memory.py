# Ours: a whole image is one window, of which the network sees 4000 x 4000.
_base_ = ['sghrq_r18_40k_inria-2000x2000.py']
model = dict(
    test_cfg=dict(mode='stream', crop_size=(5000, 5000), stride=(5000, 5000))
)
