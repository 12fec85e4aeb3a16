# Rare classes first: windows of the whole data set, weighed by class, and the
# hardest ones again. The schedule is ours.
_base_ = ['hgn_r18_20k_bluemarble-768x768.py']
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmseg_uhr.WindowSampler',
        class_balanced=0.5,
        power=0.5,
        replay=0.1,
    )
)
custom_hooks = [dict(type='mmseg_uhr.HardWindowHook')]
