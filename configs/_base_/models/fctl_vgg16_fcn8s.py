# FCN-8s on windows without context: phase 1 of FCtL. Its names are those of
# the later phases.
_base_ = ['fctl_vgg16.py']
vgg16 = dict(type='Pretrained', checkpoint='torchvision://vgg16')
model = dict(
    views=dict(_delete_=True),
    backbone=dict(
        _delete_=True,
        type='mmseg_uhr.LocalContextEncoder',
        local=dict(type='mmseg_uhr.VGGFCN', init_cfg=vgg16),
    ),
    decode_head=dict(fusion=None, init_cfg=vgg16),
)
