import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmseg_uhr.memory import plan_memory
from mmseg_uhr.planning import Planner

TOOL = Path(__file__).parents[2] / 'tools' / 'plan_memory.py'
MIB = 2**20


@pytest.fixture
def plan(monkeypatch, capsys, tiny_config):
    """Run the tool on the tiny config; return what it prints."""

    def run(*arguments, config=tiny_config):
        argv = ['plan_memory.py', str(config), *map(str, arguments)]
        monkeypatch.setattr(sys, 'argv', argv)
        runpy.run_path(str(TOOL), run_name='__main__')
        return capsys.readouterr().out

    return run


def found_total(text):
    return float(re.search(r'total +([\d.]+) MiB', text)[1])


def test_prediction_is_what_the_function_plans(plan, tiny_config, tmp_path):
    text = plan(
        *('--image-size', 500, 4000),
        *('--json', tmp_path / 'plan.json'),
    )
    assert 'prediction, 4 x 32 x 32 pixels, fp32' in text
    # Sums of logits of 3 classes, 32 rows, 4000 columns, four bytes each.
    assert re.search(r'band .* 4000 pixels wide.*: 1.5 MiB', text)
    numbers = json.loads((tmp_path / 'plan.json').read_text())
    model = Planner(Config.fromfile(tiny_config)).model
    assert numbers['plan']['total'] == plan_memory(model, (32, 32), 4).total
    assert numbers['band'] == 3 * 32 * 4000 * 4
    # Class ids of a band, and weights of all rows and columns.
    assert numbers['beyond'] == 32 * 4000 + 4 * (500 + 4000)
    assert numbers['device_bytes'] == (
        numbers['plan']['total'] + numbers['beyond'] + numbers['band']
    )


def test_training_has_gradients_and_state(plan):
    text = plan('--mode', 'train', '--crop-size', 64, 96, '--batch-size', 3)
    assert 'training, 3 x 64 x 96 pixels, fp32' in text
    assert 'optimizer state' in text
    assert re.search(r'peak: \w+ ', text)


def test_a_budget_for_prediction_is_used_and_kept(plan, tmp_path):
    out = tmp_path / 'fits.py'
    size = ('--image-size', 640, 640, '--crop-size', 256, 256)
    text = plan(*size, '--budget', '24MiB', '--apply', out)
    need = float(re.search(r'needs ([\d.]+) MiB', text)[1])
    assert need <= 24
    cfg = Config.fromfile(out)
    assert cfg.model.test_cfg.crop_size == (256, 256)
    assert cfg.train_cfg.max_iters == 40
    batch = cfg.model.test_cfg.batch_size
    assert f'batch_size={batch}' in text
    # What was written is what fits, and one window more would not.
    planner = Planner(cfg, image_size=(640, 640))
    assert planner.as_configured().device_bytes <= 24 * MIB
    more = Planner(cfg, image_size=(640, 640), batch_size=batch + 1)
    assert more.as_configured().device_bytes > 24 * MIB


def test_windows_shrink_where_one_is_too_large(plan, tmp_path):
    out = tmp_path / 'fits.py'
    text = plan(
        *('--crop-size', 1024, 1024, '--budget', '24MiB', '--apply', out)
    )
    test_cfg = Config.fromfile(out).model.test_cfg
    assert 64 <= test_cfg.crop_size[0] < 1024
    assert test_cfg.stride[0] <= test_cfg.crop_size[0]
    assert 'smaller windows see less' in text


def test_a_budget_for_training_keeps_the_effective_batch(plan, tmp_path):
    out = tmp_path / 'fits.py'
    crop = ('--mode', 'train', '--crop-size', 128, 128, '--batch-size', 8)
    whole = found_total(plan(*crop))
    text = plan(*crop, '--budget', f'{0.6 * whole:.2f}MiB', '--apply', out)
    cfg = Config.fromfile(out)
    counts = cfg.optim_wrapper.accumulative_counts
    assert cfg.train_dataloader.batch_size * counts == 8
    assert counts > 1
    assert cfg.train_cfg.max_iters == 40 * counts
    assert cfg.param_scheduler[0].end == 40 * counts
    assert 'batch norms see' in text


def test_a_smaller_crop_is_the_last_resort(plan, tmp_path):
    out = tmp_path / 'fits.py'
    crop = ('--mode', 'train', '--crop-size', 256, 256, '--batch-size', 2)
    single = found_total(plan(*crop[:-1], 1))
    plan(*crop, '--budget', f'{0.5 * single:.2f}MiB', '--apply', out)
    cfg = Config.fromfile(out)
    size = cfg.model.data_preprocessor.size
    (window,) = (
        step.crop_size
        for step in cfg.train_dataloader.dataset.pipeline
        if 'crop_size' in step
    )
    assert 64 <= size[0] < 256
    assert tuple(window) == tuple(size)


def test_enough_memory_changes_nothing(plan):
    text = plan('--mode', 'train', '--budget', '64MiB')
    assert 'nothing to change' in text
    assert 'fits as it is; the largest batch' in text


def test_what_is_given_is_written_where_it_fits(plan, tmp_path):
    out = tmp_path / 'fits.py'
    given = ('--mode', 'train', '--crop-size', 64, 64, '--batch-size', 1)
    plan(*given, '--budget', '64MiB', '--apply', out)
    cfg = Config.fromfile(out)
    assert cfg.model.data_preprocessor.size == (64, 64)
    assert cfg.train_dataloader.batch_size == 1
    assert cfg.train_dataloader.dataset.pipeline[2].crop_size == (64, 64)


def test_half_precision_needs_less(plan):
    size = ('--crop-size', 256, 256)
    single = found_total(plan(*size))
    assert found_total(plan(*size, '--dtype', 'bf16')) < 0.8 * single


def test_sweep_and_plot(plan, tmp_path):
    picture = tmp_path / 'sweep.png'
    text = plan('--crop-size', 128, 128, '--sweep', '--plot', picture)
    rows = re.findall(r'^ +(\d+)x(\d+)((?: +\d+)+)$', text, re.M)
    assert [row[:2] for row in rows] == [
        ('64', '64'),
        ('96', '96'),
        ('128', '128'),
    ]
    assert picture.read_bytes()[:4] == b'\x89PNG'


@pytest.mark.skipif(torch.cuda.is_available(), reason='has a GPU')
def test_a_share_needs_a_device(plan):
    with pytest.raises(SystemExit, match='--device-memory'):
        plan('--budget', '0.9')
    text = plan('--budget', '0.5', '--device-memory', '64MiB')
    assert 'budget 32 MiB' in text


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--budget', 'lots'], "such as '8GiB'"),
        (['--budget', '-1'], "such as '8GiB'"),
        (['--budget', '9GiB', '--device-memory', '8GiB'], 'has 8.0 GiB'),
        (['--budget', '100KiB'], 'the least that this model needs .* MiB'),
        (
            ['--budget', '100KiB', '--mode', 'train'],
            'the least that training this model needs is about .* MiB',
        ),
    ],
)
def test_bad_budgets(plan, arguments, message):
    with pytest.raises(SystemExit, match=message):
        plan(*arguments)


def test_parts_of_configs_are_refused(plan, tmp_path):
    part = tmp_path / 'part.py'
    part.write_text('a = 1\n')
    with pytest.raises(SystemExit, match='has no model'):
        plan(config=part)
