# The authors' schedule and windows.
_base_ = [
    '../_base_/models/sghrq_r18.py',
    '../_base_/datasets/deepglobe.py',
    '../_base_/default_runtime.py',
    '../_base_/schedules/schedule_80k.py',
]
model = dict(
    data_preprocessor=dict(size=(1224, 1224)),
    decode_head=dict(num_classes=7),
    auxiliary_head=[
        dict(head, num_classes=7) for head in _base_.model.auxiliary_head
    ],
    # The authors' windows: four of an image.
    test_cfg=dict(mode='stream', crop_size=(1504, 1504), stride=(1128, 1128)),
)
train_dataloader = dict(batch_size=8)
# As the authors score: unknown pixels do not count.
val_evaluator = dict(protocol='deepglobe-6-ignore')
test_evaluator = val_evaluator
