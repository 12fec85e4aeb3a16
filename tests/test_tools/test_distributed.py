"""Several processes, started by our scripts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmseg_uhr.compat import register_safe_globals

ROOT = Path(__file__).resolve().parents[2]
STRATEGIES = ROOT / 'configs' / '_base_' / 'strategies'


def scores(work_dir):
    (path,) = Path(work_dir).glob('*/*.json')
    return json.loads(path.read_text())


def test_two_processes_train(tiny_config, tmp_path, run_script):
    # A work dir with a space: the scripts must quote.
    work_dir = tmp_path / 'work dir'
    run_script(
        *('dist_train.sh', tiny_config, 2, '--work-dir', work_dir),
        *(
            '--cfg-options',
            'train_cfg.max_iters=20',
            'train_cfg.val_interval=20',
        ),
        cwd=tmp_path,
    )
    register_safe_globals()
    checkpoint = torch.load(work_dir / 'iter_20.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == 20
    names = list(checkpoint['state_dict'])
    assert not any(name.startswith('module.') for name in names)
    log = next(work_dir.glob('*/vis_data/scalars.json')).read_text()
    assert 0 <= json.loads(log.splitlines()[-1])['mIoU'] <= 100


def test_two_processes_score_as_one(
    trained, tiny_config, tmp_path, run_tool, run_script
):
    """Three scenes: one process gets one that the other has had."""
    checkpoint = trained / 'iter_40.pth'
    run_script(
        *('dist_test.sh', tiny_config, checkpoint, 2),
        *('--work-dir', tmp_path / 'two'),
        cwd=tmp_path,
    )
    run_tool(
        'test.py', tiny_config, checkpoint, '--work-dir', tmp_path / 'one'
    )
    assert scores(tmp_path / 'two') == pytest.approx(
        {**scores(tmp_path / 'one'), **_times(scores(tmp_path / 'two'))}
    )


def _times(found):
    """Timings, which differ from run to run."""
    return {k: v for k, v in found.items() if k in ('time', 'data_time')}


def test_torchrun_tells_which_error_came_first(
    tiny_config, tmp_path, run_script
):
    with pytest.raises(AssertionError) as found:
        run_script(
            *('dist_train.sh', tiny_config, 2, '--work-dir', tmp_path),
            *('--cfg-options', 'train_dataloader.dataset.data_root=nowhere'),
            cwd=tmp_path,
        )
    text = str(found.value)
    assert 'Root Cause (first observed failure)' in text
    assert 'Error' in text.split('error_file:')[-1]
    assert 'nowhere' in text.split('error_file:')[-1]


@pytest.mark.parametrize('script', sorted((ROOT / 'tools').glob('*_*.sh')))
def test_scripts_are_bash(script):
    result = subprocess.run(
        ['bash', '-n', script], capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, '')


@pytest.mark.gpu
@pytest.mark.parametrize('strategy', [None, 'fsdp'])
def test_gpus_meet_over_nccl(tiny_config, tmp_path, strategy):
    """As many processes as there are GPUs; also a single one."""
    config = tmp_path / 'config.py'
    bases = [str(tiny_config)]
    if strategy:
        bases.append(str(STRATEGIES / f'{strategy}.py'))
    config.write_text(f'_base_ = {bases}\n')
    result = subprocess.run(
        [
            *('bash', ROOT / 'tools' / 'dist_train.sh', config),
            *(str(torch.cuda.device_count()), '--work-dir', tmp_path),
            *('--cfg-options', 'train_cfg.max_iters=20'),
        ],
        env=dict(
            os.environ,
            PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        ),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    checkpoint = torch.load(tmp_path / 'iter_20.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == 20
