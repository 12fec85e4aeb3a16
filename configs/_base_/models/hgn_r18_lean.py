# HGN-R18 that trains in less memory: same losses and gradients.
_base_ = ['hgn_r18.py']
model = dict(
    train_cfg=dict(
        loss_rows=128,
        checkpoint=[
            'backbone.shallow.stages.0',
            'backbone.shallow.stages.1',
            'backbone.shallow.stages.2.0',
            'backbone.shallow.stages.2.1',
            'decode_head.grafts.1',
        ],
    )
)
