# One encoder for the window and one context: phase 2 of FCtL, which trains
# the encoders of contexts.
_base_ = ['fctl_vgg16.py']
model = dict(
    views=dict(
        _delete_=True,
        medium=dict(region=2, size=(508, 508), resampling='pillow'),
    ),
    backbone=dict(
        _delete_=True,
        type='mmseg_uhr.LocalContextEncoder',
        local=dict(type='mmseg_uhr.VGGFCN'),
        contexts=('medium',),
        share=True,
    ),
    decode_head=dict(fusion=dict(contexts=('medium',), local=False)),
)
