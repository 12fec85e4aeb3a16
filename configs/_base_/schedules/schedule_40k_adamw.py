# AdamW with warm-up and linear decay, 40 000 iterations.
_base_ = ['schedule_80k_adamw.py']
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=40001),
]
train_cfg = dict(max_iters=40000, val_interval=4000)
