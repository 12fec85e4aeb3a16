"""What systems cost, measured by the benchmark's means."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from benchmark import summarise
from measuring.job import Job
from measuring.own_process import run_alone

from .runs import Run, digest

_HERE = Path(__file__).resolve().parent
_JOB = _HERE.parent / 'measuring' / 'job.py'
_PLAN = _HERE.parents[1] / 'plan_memory.py'
_MIB = 2**20


def measure(
    run: Run,
    size: tuple[int, int],
    device: str,
    threads: int,
    thoroughly: bool,
    anew: bool = True,
) -> dict[str, Any]:
    """Measure the stream of a scene through a network, with random weights.

    Args:
        run (Run): Tells the network and its windows. What was found is kept
            beside its scores.
        size (tuple[int, int]): ``(H, W)`` of the scene, pixels.
        device (str): Such as ``'cpu'``.
        threads (int): Of the CPU.
        thoroughly (bool): Whether to run it, too, and to plan its training;
            otherwise only what fake tensors tell.
        anew (bool): Whether to measure what is not known yet. Defaults to
            True.

    Returns:
        dict: ``parameters_m``, ``gmacs``, ``planned_mib``; ``allocated_mib``,
        ``process_mib``, ``s_per_mp``; ``training_mib``, what a training step
        is planned to take; nothing for what is not known; ``notes`` tell what
        failed.
    """
    job = Job(
        config=str(_config_file(run)),
        size=size,
        batch_size=run.cfg.model.test_cfg.get('batch_size') or 1,
        precision='fp32',
        mode='stream',
        device=device,
        threads=threads,
        warmup=1,
        runs=2,
    )
    row: dict[str, Any] = dict(size=size, images=1, runs=[], notes=[])
    row.update(_job(run, 'cost', job, anew))
    if thoroughly:
        found = _job(run, 'run', job, anew)
        if 'seconds' in found:
            row['runs'].append(found)
            summarise(row, torch.device(device))
        elif 'problem' in found:
            row['notes'].append(f'run: {found["problem"]}')
        _plan_training(run, row, _environment(threads), anew)
    if 'problem' in row:
        row['notes'].append(f'cost: {row.pop("problem")}')
        row.pop('traceback', None)
    return row


def _job(run: Run, kind: str, job: Job, anew: bool) -> dict[str, Any]:
    """Measure, or read what was measured; failures are tried again."""
    # The folder stands for the config, and may be moved.
    how = dict(asdict(job), config=None)
    kept = run.test_folder / f'{kind}-{digest(how)}.json'
    if kept.exists():
        return json.loads(kept.read_text())
    if not anew:
        return {}
    print(f'{kind} {run.name}, {run.window}', file=sys.stderr, flush=True)
    out = run.test_folder / 'found.json'
    found = run_alone(
        [_JOB, kind, json.dumps(asdict(job)), out],
        out,
        _environment(job.threads),
    )
    out.unlink(missing_ok=True)
    if 'problem' not in found:
        kept.write_text(json.dumps(found))
    return found


def _environment(threads: int) -> dict[str, str]:
    """Return what a process of its own needs to know."""
    return dict(OMP_NUM_THREADS=str(threads))


def _plan_training(
    run: Run, row: dict[str, Any], environment: dict[str, str], anew: bool
) -> None:
    """Fill in what a training step takes; windows of tests do not matter."""
    out = run.folder / 'training_plan.json'
    if out.exists():
        plan = json.loads(out.read_text())
    elif not anew:
        return
    else:
        plan = run_alone(
            [_PLAN, _config_file(run), '--mode', 'train', '--json', out],
            out,
            environment,
        )
    if 'problem' in plan:
        row['notes'].append(f'training: {plan["problem"]}')
    else:
        row['training_mib'] = plan['device_bytes'] / _MIB


def _config_file(run: Run) -> Path:
    """Write the resolved config with its windows, if it is not there."""
    path = run.test_folder / 'config.py'
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run.cfg.dump(path)
    return path
