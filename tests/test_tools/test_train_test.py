"""Our train.py and test.py, and stock's on our configs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config

from mmseg_uhr.compat import register_safe_globals

ROOT = Path(__file__).resolve().parents[2]
STOCK_TOOLS = Path(mmseg.__path__[0]) / '.mim' / 'tools'


def load(path):
    register_safe_globals()
    return torch.load(path, weights_only=True)


def weights(path):
    return load(path)['state_dict']


def scores(work_dir):
    """The scores that test.py left in its work dir."""
    (path,) = Path(work_dir).glob('*/*.json')
    return json.loads(path.read_text())


def test_training_learns_and_logs_scores(trained):
    log = next(trained.glob('*/vis_data/scalars.json')).read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert losses[-1] < losses[0]
    assert 0 < lines[-1]['mIoU'] <= 100


# Nothing random but the order: resuming does not promise the same draws.
STEADY_CONFIG = """
_base_ = [{base!r}]
model = dict(data_preprocessor=dict(size=(96, 128)))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='mmseg_uhr.LoadRaster'),
            dict(type='mmseg_uhr.LoadLabelRaster'),
            dict(type='mmseg_uhr.RandomWindow', crop_size=(96, 128)),
            dict(type='mmseg_uhr.ReadViews'),
            dict(type='mmseg_uhr.PackUHRInputs'),
        ],
    ),
)
default_hooks = dict(checkpoint=dict(interval=6))
train_cfg = dict(max_iters=12, val_interval=12)
"""


def test_resume_equals_training_in_one_go(tiny_config, tmp_path, run_tool):
    config = tmp_path / 'steady.py'
    config.write_text(STEADY_CONFIG.format(base=str(tiny_config)))
    for folder, *options in (
        ('straight',),
        ('resumed', '--cfg-options', 'train_cfg.max_iters=6'),
        ('resumed', '--resume'),
    ):
        work_dir = tmp_path / folder
        run_tool('train.py', config, '--work-dir', work_dir, *options)
    straight = load(tmp_path / 'straight' / 'iter_12.pth')
    resumed = load(tmp_path / 'resumed' / 'iter_12.pth')
    middle = load(tmp_path / 'resumed' / 'iter_6.pth')
    for name, value in straight['state_dict'].items():
        assert torch.equal(value, resumed['state_dict'][name]), name
    name = 'decode_head.conv_seg.weight'
    assert not torch.equal(
        middle['state_dict'][name], resumed['state_dict'][name]
    )
    rates = [
        checkpoint['optimizer']['param_groups'][0]['lr']
        for checkpoint in (middle, straight, resumed)
    ]
    assert rates[0] > rates[1] == rates[2]


def test_test_repeats_the_scores_of_training(
    trained, tiny_config, tmp_path, run_tool
):
    run_tool(
        *('test.py', tiny_config, trained / 'iter_40.pth'),
        *('--work-dir', tmp_path),
    )
    log = next(trained.glob('*/vis_data/scalars.json')).read_text()
    validated = json.loads(log.splitlines()[-1])
    assert scores(tmp_path)['mIoU'] == validated['mIoU']


def test_predictions_are_written_beside_several_metrics(
    trained, tiny_config, tmp_path, run_tool
):
    config = tmp_path / 'several.py'
    config.write_text(
        f'_base_ = [{str(tiny_config)!r}]\n'
        "test_evaluator = [dict(type='mmseg_uhr.BoundaryIoUMetric'), "
        '{{_base_.test_evaluator}}]\n'
    )
    run_tool(
        *('test.py', config, trained / 'iter_40.pth'),
        *('--work-dir', tmp_path, '--out', tmp_path / 'maps'),
    )
    assert len(list((tmp_path / 'maps').iterdir())) > 0
    assert {'mIoU', 'mIoU_boundary_2pct'} <= set(scores(tmp_path))
    config.write_text(
        f'_base_ = [{str(tiny_config)!r}]\n'
        'test_evaluator = dict(_delete_=True, '
        "type='mmseg_uhr.BoundaryIoUMetric')\n"
    )
    with pytest.raises(SystemExit, match='no metric of test_evaluator writes'):
        run_tool(
            *('test.py', config, trained / 'iter_40.pth'),
            *('--work-dir', tmp_path, '--out', tmp_path / 'maps'),
        )


def test_amp_on_cpu_warns_and_trains_in_fp32(tiny_config, tmp_path, run_tool):
    if torch.cuda.is_available():
        pytest.skip('mixed precision is available')
    with pytest.warns(UserWarning, match='continues in fp32'):
        run_tool(
            *('train.py', tiny_config, '--work-dir', tmp_path, '--amp'),
            *('--cfg-options', 'train_cfg.max_iters=1'),
        )
    saved = weights(tmp_path / 'iter_1.pth')
    assert {v.dtype for v in saved.values()} == {torch.float32, torch.int64}


def test_wrong_checkpoint_ends_with_one_sentence(
    trained, tiny_config, tmp_path, run_tool
):
    wrong = tmp_path / 'wrong.pth'
    wrong.write_bytes(b'no checkpoint')
    with pytest.raises(SystemExit, match=r'test.py: .*wrong\.pth: not a che'):
        run_tool('test.py', tiny_config, wrong, '--work-dir', tmp_path)
    with pytest.raises(SystemExit, match=r'iter_9\.pth: no such file'):
        run_tool(
            *('test.py', tiny_config, trained / 'iter_9.pth'),
            *('--work-dir', tmp_path),
        )


def test_tta_needs_its_pipeline(trained, tiny_config, tmp_path, run_tool):
    with pytest.raises(SystemExit, match='--tta needs tta_pipeline'):
        run_tool(
            *('test.py', tiny_config, trained / 'iter_40.pth', '--tta'),
            *('--work-dir', tmp_path),
        )


def test_show_dir_draws(trained, tiny_config, tmp_path, run_tool):
    run_tool(
        *('test.py', tiny_config, trained / 'iter_40.pth'),
        *('--work-dir', tmp_path / 'work'),
        *('--show-dir', tmp_path / 'pictures'),
    )
    pictures = list((tmp_path / 'pictures').rglob('*.png'))
    assert {'a', 'b', 'c'} <= {p.name.split('_')[1] for p in pictures}


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_options_are_stock_s(tool):
    ours, stocks = (
        set(re.findall(r"'(--[a-z_-]+)'", (folder / tool).read_text()))
        for folder in (ROOT / 'tools', STOCK_TOOLS)
    )
    assert ours == stocks | {'--trust'}


def test_stock_tools_run_our_configs(trained, tiny_config, tmp_path):
    """In a new process, which has not imported mmseg_uhr yet."""
    script = f"""
import runpy, sys
def run(*arguments):
    sys.argv = list(arguments)
    runpy.run_path(arguments[0], run_name='__main__')
run({str(STOCK_TOOLS / 'test.py')!r}, {str(tiny_config)!r},
    {str(trained / 'iter_40.pth')!r}, '--work-dir', 'test')
run({str(STOCK_TOOLS / 'train.py')!r}, {str(tiny_config)!r},
    '--work-dir', 'train', '--cfg-options', 'train_cfg.max_iters=20')
"""
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', script],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'weights_only=False' not in result.stdout + result.stderr
    log = next(trained.glob('*/vis_data/scalars.json')).read_text()
    validated = json.loads(log.splitlines()[-1])
    assert scores(tmp_path / 'test')['mIoU'] == validated['mIoU']
    ours, stocks = (
        weights(trained / 'iter_20.pth'),
        weights(tmp_path / 'train' / 'iter_20.pth'),
    )
    assert all(torch.equal(ours[name], stocks[name]) for name in ours)


def test_config_is_unchanged_where_a_gpu_is(tiny_config):
    if not torch.cuda.is_available():
        pytest.skip('no GPU')
    from mmseg_uhr.apis.launch import enable_amp, prepare_launch

    cfg = Config.fromfile(tiny_config)
    enable_amp(cfg)
    prepare_launch(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.model.backbone.norm_cfg.type == 'SyncBN'
