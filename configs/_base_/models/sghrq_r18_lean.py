# SGHRQ-R18 that trains in less memory: same losses and gradients. What is
# left is the super-resolution branch.
_base_ = ['sghrq_r18.py']
model = dict(
    train_cfg=dict(
        loss_rows=128,
        checkpoint=[
            'backbone.shallow',
            'backbone.deep',
            'decode_head.class_head_8',
            'decode_head.class_head_16',
            'decode_head.memory.embed',
            'decode_head.query',
        ],
    )
)
