# Ours: the authors' code has no URUR. Experts as on Inria; a batch that takes
# the memory of theirs on Cityscapes; windows as large as crops.
_base_ = [
    '../_base_/models/hlrc_swin-t.py',
    '../_base_/datasets/urur.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_160k_adamw.py',
]
model = dict(
    data_preprocessor=dict(size=(1280, 1280)),
    decode_head=dict(num_classes=8, num_experts=8),
    auxiliary_head=[
        dict(head, num_classes=8) for head in _base_.model.auxiliary_head
    ],
    # 25 windows of an image.
    test_cfg=dict(mode='stream', crop_size=(1280, 1280), stride=(960, 960)),
)
train_dataloader = dict(batch_size=4)
