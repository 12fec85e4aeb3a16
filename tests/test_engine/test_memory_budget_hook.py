import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_uhr.apis import fit_config
from mmseg_uhr.engine.hooks import MemoryBudgetHook
from mmseg_uhr.engine.hooks.memory_budget_hook import (
    OverBudgetError,
    TrainingMemoryError,
)
from mmseg_uhr.memory import total_memory
from mmseg_uhr.memory.process import ProcessMemory
from mmseg_uhr.planning import Planner

MIB = 2**20
pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason='is about the memory of a CPU'
)


def runner_of(cfg, hook=None, iters=2):
    cfg.train_cfg.update(max_iters=iters, val_interval=iters)
    cfg.default_hooks.logger.interval = 1
    if hook is not None:
        cfg.custom_hooks = [dict(type='mmseg_uhr.MemoryBudgetHook', **hook)]
    return Runner.from_cfg(cfg)


def enlarge(cfg):
    """Let a step need more than the process takes by chance."""
    cfg.model.data_preprocessor.size = (256, 256)
    cfg.train_dataloader.batch_size = 8
    return Planner(cfg, 'train').plan().total


def log_of(cfg):
    (path,) = Path(cfg.work_dir).glob('*/*.log')
    return path.read_text()


def scalars_of(cfg):
    (path,) = Path(cfg.work_dir).glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_plan_and_peaks_are_logged_and_nothing_changes(tiny_cfg):
    plain = Config(tiny_cfg.to_dict())
    plain.work_dir += '/plain'
    plain.experiment_name += 'b'
    plain.visualizer.name += 'b'
    expected = runner_of(plain).train().state_dict()
    model = runner_of(tiny_cfg, dict(budget=0.9)).train()
    text = log_of(tiny_cfg)
    assert 'plan of a step' in text
    assert 'training, 2 x 32 x 32 pixels, fp32' in text
    assert 'peak: ' in text
    train, *_, val = scalars_of(tiny_cfg)
    for line in (train, val):
        assert 100 < line['memory_process'] < 20_000
    assert 'mIoU' in val
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_warning_says_what_fits(tiny_cfg):
    need = enlarge(tiny_cfg)
    budget = ProcessMemory().now() + int(0.9 * need)
    runner = runner_of(tiny_cfg, dict(budget=budget), iters=1)
    runner.train()
    assert runner.iter == 1
    text = log_of(tiny_cfg)
    assert 'What fits' in text
    assert 'loss_rows=128' in text


def test_a_cap_ends_the_run_before_any_work(tiny_cfg):
    need = enlarge(tiny_cfg)
    budget = ProcessMemory().now() + need // 2
    runner = runner_of(tiny_cfg, dict(budget=budget, policy='cap'))
    with pytest.raises(OverBudgetError, match='What fits(.|\n)*batch_size='):
        runner.train()
    assert runner.iter == 0
    assert not list(Path(tiny_cfg.work_dir).glob('*.pth'))


class Grows(Hook):
    """A run that takes more and more memory."""

    def __init__(self):
        self.kept = []

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 2:
            self.kept.append(bytearray(b'x' * (400 * MIB)))


def test_a_capped_process_loses_no_iteration(tiny_cfg):
    budget = ProcessMemory().now() + 300 * MIB
    runner = runner_of(tiny_cfg, dict(budget=budget, policy='cap'), iters=6)
    runner.register_hook(Grows())
    with pytest.raises(
        OverBudgetError, match=r'All 3 iterations.*iter_3\.pth'
    ):
        runner.train()
    tiny_cfg.experiment_name += 'b'
    tiny_cfg.visualizer.name += 'b'
    tiny_cfg.resume = True
    tiny_cfg.pop('custom_hooks', None)
    resumed = runner_of(tiny_cfg, iters=6)
    resumed.load_or_resume()
    assert resumed.iter == 3
    resumed.train()
    assert resumed.iter == 6


def test_memory_that_runs_out_is_explained(tiny_cfg):
    tiny_cfg.train_dataloader.batch_size = 8
    runner = runner_of(tiny_cfg, dict(budget=0.9))
    layer = runner.model.decode_head.convs[0].conv
    # More than any machine has.
    layer.register_forward_pre_hook(lambda *_: torch.empty(2**52))
    with pytest.raises(TrainingMemoryError) as caught:
        runner.train()
    text = str(caught.value)
    assert 'memory ran out in decode_head.convs.0.conv' in text
    assert "can't allocate memory" in text
    assert 'Planned: training, 8 x 32 x 32' in text
    assert 'What fits' in text
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_other_errors_stay_as_they_are(tiny_cfg):
    runner = runner_of(tiny_cfg, dict(budget=0.9))

    def fail(*_):
        raise KeyError('mine')

    runner.model.backbone.register_forward_pre_hook(fail)
    with pytest.raises(KeyError, match='mine'):
        runner.train()


def test_a_run_that_nobody_fitted_is_refused(tiny_cfg):
    need = Planner(tiny_cfg, 'train').plan().total
    hook = dict(budget=need - 1, policy='fit')
    runner = runner_of(tiny_cfg, hook)
    with pytest.raises(OverBudgetError, match=r'fit_config\(cfg\)'):
        runner.train()


def test_a_run_is_resumed_as_it_was_fitted(tiny_cfg):
    tiny_cfg.train_dataloader.batch_size = 8
    need = Planner(tiny_cfg, 'train').plan().total
    hook = dict(budget=need // 2, policy='fit')
    tiny_cfg.custom_hooks = [dict(type='mmseg_uhr.MemoryBudgetHook', **hook)]
    other = Config(tiny_cfg.to_dict())
    assert fit_config(tiny_cfg)
    assert tiny_cfg.optim_wrapper.accumulative_counts > 1
    runner_of(tiny_cfg, iters=4).train()
    other.experiment_name += 'b'
    other.visualizer.name += 'b'
    other.resume = True
    other.train_dataloader.batch_size = 3
    other.custom_hooks[0]['budget'] = '1GiB'
    assert not fit_config(other)
    with pytest.raises(
        OverBudgetError, match='batches of 2, 4 per step, this run of 3, 1 per'
    ):
        runner_of(other, iters=6).train()


def test_a_test_is_measured(tiny_cfg, trained):
    tiny_cfg.load_from = str(trained / 'iter_40.pth')
    runner = runner_of(tiny_cfg, dict(budget=0.9, policy='cap'))
    assert runner.test()['mIoU'] > 0
    peak = runner.message_hub.get_scalar('test/memory_process').current()
    assert 100 < peak < 20_000


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(budget='8GiB', policy='hope'), "policy='hope': expected"),
        (dict(budget='lots'), "budget='lots': expected a size"),
        (dict(budget=-1), 'budget=-1'),
        (dict(budget=0), 'budget=0'),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        MemoryBudgetHook(**options)


@pytest.mark.parametrize('budget', ['8G', '8 GiB', 0.9])
def test_budgets_are_written_as_one_likes(budget):
    assert MemoryBudgetHook(budget).budget == budget


def test_more_than_there_is(tiny_cfg):
    much = 2 * total_memory('cpu')
    with pytest.raises(ValueError, match='the device has'):
        runner_of(tiny_cfg, dict(budget=much)).train()
