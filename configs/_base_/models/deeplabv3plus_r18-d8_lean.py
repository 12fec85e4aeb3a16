# DeepLabV3+ R18 that trains in less memory: same losses and gradients.
_base_ = ['deeplabv3plus_r18-d8.py']
model = dict(
    train_cfg=dict(
        loss_rows=128,
        checkpoint=[
            'backbone.stem',
            'backbone.layer1.0',
            'backbone.layer1.1',
            'decode_head.aspp_modules.1',
            'decode_head.aspp_modules.2',
            'decode_head.aspp_modules.3',
            'decode_head.sep_bottleneck.0',
            'decode_head.sep_bottleneck.1',
        ],
    )
)
