# Adam with polynomial decay, as FCtL's authors train on DeepGlobe: six images,
# 54 batches of four windows, make a step; 50 epochs of 76 steps. They add the
# gradients of the 54 batches where this takes their mean. Adam does not care,
# but the weight decay does: theirs is 5e-4.
batches_per_step = 54
max_iters = 50 * 76 * batches_per_step
optimizer = dict(type='Adam', lr=5e-5, weight_decay=5e-4 / batches_per_step)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=optimizer,
    accumulative_counts=batches_per_step,
)
param_scheduler = [
    dict(
        type='PolyLR',
        eta_min=0.0,
        power=0.9,
        begin=0,
        end=max_iters,
        by_epoch=False,
    )
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=76 * 54 * 5
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
