"""Metrics of counts as one of several processes, on uneven shards."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner

from mmseg_uhr.evaluation.metrics import (
    BoundaryIoUMetric,
    ObjectSizeIoUMetric,
    TrimapIoUMetric,
    UHRIoUMetric,
)

CLASSES = ('background', 'building')
SIZES = (1, 3, 4)


def metrics(folder):
    """Make a metric of each kind; only the first writes a file."""
    made = [
        UHRIoUMetric(
            protocol='inria-building', confusion_file=f'{folder}/counts.npy'
        ),
        BoundaryIoUMetric(widths=(2, 0.02)),
        TrimapIoUMetric(),
        ObjectSizeIoUMetric(edges=(9, 30)),
    ]
    for metric in made:
        metric.dataset_meta = dict(classes=CLASSES)
    return made


def data_set(size):
    """Make samples of different shapes."""
    rng = np.random.default_rng(size)
    samples = []
    for i in range(size):
        label = rng.integers(0, 2, (10, 12 + i)).repeat(4, 0).repeat(4, 1)
        pred = np.roll(label, 1, i % 2)
        label[rng.random(label.shape) < 0.05] = 255
        samples.append(
            dict(
                pred_sem_seg=dict(data=torch.from_numpy(pred)[None]),
                gt_sem_seg=dict(data=torch.from_numpy(label)[None]),
            )
        )
    return samples


def score(folder, world):
    """Score all data sets; with two processes, as the current rank."""
    found = []
    for size in SIZES:
        samples = data_set(size)
        shard = (
            DefaultSampler(samples, shuffle=False) if world else range(size)
        )
        for metric in metrics(folder):
            for i in shard:
                metric.process(None, [samples[i]])
            found.append(metric.evaluate(size))
    return found


def test_two_processes_score_as_one(tmp_path):
    folders = [tmp_path / name for name in ('one', 'two')]
    for folder in folders:
        folder.mkdir()
    path = os.pathsep.join(p for p in sys.path if p)
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folders[1])],
            env={**os.environ, 'PYTHONPATH': path},
            cwd=tmp_path,  # Ranks exchange files below the current folder.
        )
        for rank in range(2)
    ]
    try:
        expected = score(folders[0], world=False)
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    for rank in range(2):
        found = torch.load(folders[1] / f'{rank}.pth', weights_only=False)
        np.testing.assert_equal(found, expected)
    np.testing.assert_array_equal(
        *(np.load(folder / 'counts.npy') for folder in folders)
    )


def test_a_run_keeps_the_best_at_boundaries(tiny_cfg):
    """Several evaluators, and a new score as ``save_best``, in a real run."""
    tiny_cfg.train_cfg.update(max_iters=2, val_interval=2)
    tiny_cfg.val_evaluator = [
        dict(
            type='mmseg_uhr.UHRIoUMetric',
            protocol=dict(left_out=['red']),
            confusion_file=f'{tiny_cfg.work_dir}/confusion.csv',
        ),
        dict(type='mmseg_uhr.BoundaryIoUMetric', widths=[2, 0.02]),
        dict(type='mmseg_uhr.TrimapIoUMetric', widths=[4]),
        dict(type='mmseg_uhr.ObjectSizeIoUMetric', edges=[300]),
    ]
    tiny_cfg.default_hooks.checkpoint.save_best = 'mIoU_boundary_2px'
    runner = Runner.from_cfg(tiny_cfg)
    runner.train()
    folder = Path(tiny_cfg.work_dir)
    assert list(folder.glob('best_mIoU_boundary_2px_iter_2.pth'))
    rows = (folder / 'confusion.csv').read_text().splitlines()
    assert rows[0] == 'label \\ predicted,red,green,blue'
    assert runner.val_loop.evaluator.metrics[0].protocol.name == 'custom'


if __name__ == '__main__':
    rank, folder = int(sys.argv[1]), sys.argv[2]
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    torch.save(score(folder, world=True), f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()
