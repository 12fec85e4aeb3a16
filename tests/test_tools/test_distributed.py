"""Several processes on CPUs, started by our scripts."""

import json
from pathlib import Path

import pytest
import torch

from mmseg_uhr.compat import register_safe_globals


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
