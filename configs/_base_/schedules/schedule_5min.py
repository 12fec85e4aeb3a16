# AdamW for five minutes of training, whatever the machine: warm-up and
# polynomial decay follow the clock.
optimizer = dict(type='AdamW', lr=5e-3, weight_decay=0.01)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=optimizer,
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
custom_hooks = [dict(type='mmseg_uhr.TimeBudgetHook', minutes=5)]
# The hook sets the last iteration; validation follows it.
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=100000, val_interval=100000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = []
