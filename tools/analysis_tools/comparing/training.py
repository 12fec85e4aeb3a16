"""Trains and tests runs with the standard tools, each in a process."""

import copy
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .runs import Run

_TOOLS = Path(__file__).resolve().parents[2]
_MIB = 1024


class RunError(RuntimeError):
    """A run that failed; the message names its log."""


def train_all(runs: Sequence[Run], jobs: int, threads: int) -> list[str]:
    """Train and test what is not finished.

    Args:
        runs (Sequence[Run]): In the order of their start.
        jobs (int): That run at a time.
        threads (int): Of each.

    Returns:
        list[str]: What went wrong, a line each; the other runs are done.
    """

    def work(run: Run) -> str | None:
        try:
            train(run, threads)
            test(run, threads)
        except RunError as error:
            return f'{run.name}, seed {run.seed}: {error}'
        return None

    with ThreadPoolExecutor(jobs) as pool:
        return [problem for problem in pool.map(work, runs) if problem]


def train(run: Run, threads: int) -> None:
    """Train, from the last checkpoint of an earlier attempt if there is one.

    Args:
        run (Run): Its ``trained_file`` is written at the end.
        threads (int): Of the CPU.

    Raises:
        RunError: If the training fails.
    """
    if run.trained_file.exists():
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    run.cfg.dump(run.config_file)
    _say(f'train {run.name}, seed {run.seed}: {run.folder}')
    seconds, peak = _run_tool(
        run.folder / 'train.log',
        threads,
        'train.py',
        run.config_file,
        *('--work-dir', run.folder, '--resume'),
    )
    checkpoint = Path((run.folder / 'last_checkpoint').read_text().strip())
    logged = _logged(run.folder)
    iterations = int(re.search(r'(\d+)\.pth$', checkpoint.name)[1])
    per_iteration = statistics.median(
        line['time'] for line in logged if 'loss' in line
    )
    validation = [line for line in logged if 'mIoU' in line]
    _write(
        run.trained_file,
        dict(
            checkpoint=checkpoint.name,
            iterations=iterations,
            seconds=per_iteration * iterations,
            last_attempt_seconds=seconds,
            seconds_per_iteration=per_iteration,
            process_mib=peak,
            validation=validation[-1] if validation else {},
            losses=[
                (line['step'], line['loss'])
                for line in logged
                if 'loss' in line
            ],
        ),
    )
    _say(f'trained {run.name}, seed {run.seed} in {seconds:.0f} s')


def test(run: Run, threads: int) -> None:
    """Score the trained weights, and keep the predicted maps.

    Args:
        run (Run): Trained; its ``scores_file`` is written at the end.
        threads (int): Of the CPU.

    Raises:
        RunError: If the test fails.
    """
    if run.scores_file.exists():
        return
    folder = run.test_folder
    folder.mkdir(parents=True, exist_ok=True)
    config, confusion = folder / 'config.py', folder / 'confusion.npy'
    cfg = copy.deepcopy(run.cfg)
    cfg.test_evaluator[0]['confusion_file'] = str(confusion)
    cfg.dump(config)
    trained = json.loads(run.trained_file.read_text())
    seconds, peak = _run_tool(
        folder / 'test.log',
        threads,
        'test.py',
        config,
        run.folder / trained['checkpoint'],
        *('--work-dir', folder, '--out', run.maps()),
    )
    found = max(folder.glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    scores = json.loads(found.read_text())
    counts = np.load(confusion)
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    with np.errstate(invalid='ignore'):
        ious = 100 * hits / union
    _write(
        run.scores_file,
        dict(
            scores=scores,
            class_iou=[None if np.isnan(v) else float(v) for v in ious],
            confusion=counts.tolist(),
            test_seconds=seconds,
            process_mib=peak,
        ),
    )
    _say(f'tested {run.name}, seed {run.seed}: mIoU {scores["mIoU"]}')


def read_results(run: Run) -> dict[str, Any] | None:
    """Return what a finished run found, or ``None``."""
    if not run.scores_file.exists():
        return None
    return dict(
        trained=json.loads(run.trained_file.read_text()),
        **json.loads(run.scores_file.read_text()),
    )


def _run_tool(
    log: Path, threads: int, tool: str, *arguments: Any
) -> tuple[float, float]:
    """Run a tool of ours; return wall seconds and its peak memory, MiB."""
    command = [sys.executable, str(_TOOLS / tool), *map(str, arguments)]
    start = time.perf_counter()
    with open(log, 'a') as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
        )
        # As wait() does, but it tells the peak as well.
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code:
        lines = log.read_text(errors='replace').strip().splitlines() or ['']
        raise RunError(f'{tool} ended with {code}: {lines[-1]} (see {log})')
    return time.perf_counter() - start, usage.ru_maxrss / _MIB


def _logged(folder: Path) -> list[dict[str, Any]]:
    """Return what MMEngine logged in all attempts, in their order."""
    lines: list[dict[str, Any]] = []
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            lines.append(json.loads(line))
    return lines


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write a file that is complete if it exists."""
    part = path.with_suffix('.part')
    part.write_text(json.dumps(content))
    part.replace(path)


def _say(text: str) -> None:
    """Tell what is going on."""
    print(f'[{time.strftime("%H:%M:%S")}] {text}', file=sys.stderr, flush=True)
