# Ours: a whole image is one window, and nothing is predicted twice.
_base_ = ['sghrq_r18_80k_deepglobe-1224x1224.py']
model = dict(
    test_cfg=dict(mode='stream', crop_size=(2448, 2448), stride=(2448, 2448))
)
