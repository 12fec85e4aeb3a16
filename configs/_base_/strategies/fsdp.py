# Parameters, gradients and the optimizer's state cut into as many shards as
# there are processes. Checkpoints are whole, as those of the plain Runner.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='mmseg_uhr.FSDPStrategy',
    model_wrapper=dict(
        type='MMFullyShardedDataParallel', use_orig_params=True
    ),
    state_dict_cfg='full',
)
