# DeepSpeed, ZeRO stage 2: gradients and the optimizer's state in shards.
# Checkpoints are folders of DeepSpeed's own. The config that inherits this
# one needs an optim_wrapper of type 'DeepSpeedOptimWrapper', which has
# nothing but an optimizer: clip gradients by strategy.gradient_clipping.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    zero_optimization=dict(stage=2, overlap_comm=True),
)
