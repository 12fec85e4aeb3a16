default_scope = 'mmseg'
custom_imports = dict(imports=['mmseg_uhr'], allow_failed_imports=False)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(
        type='mmseg_uhr.LoggerHook', interval=50, log_metric_by_epoch=False
    ),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmseg_uhr.CheckpointHook', by_epoch=False, interval=4000
    ),
    rank_mean=dict(type='mmseg_uhr.RankMeanHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='mmseg_uhr.UHRVisualizationHook', draw=False),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer'
)
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
