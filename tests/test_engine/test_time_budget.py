import time

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_uhr.engine.hooks import TimeBudgetHook


class SlowIterations(Hook):
    """Makes iterations take a known time, and notes learning rates."""

    def __init__(self, seconds):
        self.seconds, self.rates = seconds, []

    def after_train_iter(self, runner, *args, **kwargs):
        group = runner.optim_wrapper.param_groups[0]
        self.rates.append(group['lr'] / group['initial_lr'])
        time.sleep(self.seconds)


def train(cfg, seconds, per_iter=0.02, resume=False, **options):
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=10**6, val_interval=10**6
    )
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.interval = 10**6
    cfg.default_hooks.param_scheduler = None
    cfg.custom_hooks = [
        dict(type='mmseg_uhr.TimeBudgetHook', minutes=seconds / 60, **options)
    ]
    cfg.resume = resume
    runner = Runner.from_cfg(cfg)
    slow = SlowIterations(per_iter)
    runner.register_hook(slow)
    start = time.perf_counter()
    runner.train()
    return runner, slow.rates, time.perf_counter() - start


def test_training_ends_with_the_time(tiny_cfg):
    runner, rates, wall = train(tiny_cfg, seconds=1.5)
    assert 5 < runner.iter < 100
    assert runner.message_hub.get_info('time_budget_elapsed') == (
        pytest.approx(1.5, abs=0.3)
    )
    assert wall < 10
    # The last iteration was foreseen: a checkpoint and a validation follow.
    assert (runner._work_dir and list_checkpoints(runner)) == [
        f'iter_{runner.iter}.pth'
    ]
    assert 'mIoU' in str(runner.message_hub.log_scalars.keys())
    assert rates[0] < 0.1
    assert max(rates) > 0.8
    assert rates[-1] < 0.2


def test_the_time_of_processors_is_not_that_of_waiting(tiny_cfg):
    runner, _, wall = train(tiny_cfg, 0.5, per_iter=0.2, clock='cpu')
    assert runner.message_hub.get_info('time_budget_elapsed') < 1.0
    assert wall > 0.2 * runner.iter
    assert runner.iter > 5


def list_checkpoints(runner):
    from pathlib import Path

    return sorted(p.name for p in Path(runner._work_dir).glob('iter_*.pth'))


def test_a_resumed_run_gets_the_time_that_is_left(tiny_cfg):
    first = Config(tiny_cfg.to_dict())
    runner, _, _ = train(first, seconds=0.6)
    done = runner.iter
    tiny_cfg.experiment_name += 'b'
    runner, _, _ = train(tiny_cfg, seconds=1.2, resume=True)
    assert runner.iter > done
    assert runner.message_hub.get_info('time_budget_elapsed') == (
        pytest.approx(1.2, abs=0.3)
    )


@pytest.mark.parametrize(
    'options',
    [
        dict(minutes=0),
        dict(minutes=-1),
        dict(minutes=1, warmup=1),
        dict(minutes=1, clock='sun'),
    ],
)
def test_settings_that_make_no_sense(options):
    with pytest.raises(ValueError, match='expected'):
        TimeBudgetHook(**options)
