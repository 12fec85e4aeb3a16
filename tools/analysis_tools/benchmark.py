"""Measure networks side by side: cost, memory by both protocols, time.

Stock and our configs, by path, as they are; weights are random. Every
measurement has a process of its own, so that peaks do not mix, and rounds of
all networks take turns. A network that fails has a row that says so.

Memory has two protocols, and tables of publications mix them: `allocated`,
the peak of PyTorch's tensors, weights included; and `whole process`, what
nvidia-smi shows, with the context and what the allocator holds, or on a CPU
the resident set. `planned` is what `plan_memory` tells without a run, to be
compared with `allocated`.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring.job import Job
from measuring.own_process import run_alone
from measuring.report import draw, page, write_files
from mmengine.config import Config
from mmengine.device import get_device

from mmseg_uhr.apis.launch import pick_device

_MEASURING = Path(__file__).parent / 'measuring'
_MODES = dict(
    whole='forward pass of the whole image in memory, logits at full size',
    stream='stream of the image in memory to class ids; batches are windows',
)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'configs',
        nargs='+',
        metavar='CONFIG[@HxW]',
        help='file; with a size of its own instead of --size',
    )
    parser.add_argument(
        '--size',
        nargs='+',
        type=int,
        default=[],
        metavar='H W',
        help='of the image in pixels; pairs for several',
    )
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument(
        '--precision', choices=('fp32', 'fp16', 'bf16'), default='fp32'
    )
    parser.add_argument('--mode', choices=_MODES, default='whole')
    parser.add_argument('--device', help='default: a GPU if there is one')
    parser.add_argument(
        '--rounds', type=int, default=3, help='processes per network and size'
    )
    parser.add_argument(
        '--runs', type=int, default=3, help='timed predictions per process'
    )
    parser.add_argument(
        '--warmup', type=int, default=1, help='predictions before those'
    )
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument(
        '--out', type=Path, metavar='FOLDER', help='for JSON, CSV and Markdown'
    )
    parser.add_argument(
        '--plot',
        action='store_true',
        help='draw FOLDER/benchmark.png: scores, or time, against memory',
    )
    parser.add_argument(
        '--scores',
        nargs='+',
        default=[],
        metavar='NAME=VALUE',
        help='or a JSON file of values by name, the name of a config file '
        'without .py: accuracy, boundary score',
    )
    parser.add_argument('--score-name', default='score')
    args = parser.parse_args()
    for name in ('batch_size', 'rounds', 'runs', 'threads'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")}: at least 1')
    if args.warmup < 0:
        parser.error('--warmup: at least 0')
    if args.plot and args.out is None:
        parser.error('--plot writes into a folder: give --out')
    return args


def read_sizes(values: list[int]) -> list[tuple[int, int]]:
    """Pair heights and widths.

    Raises:
        ValueError: If one is missing or no size.
    """
    if len(values) % 2:
        raise ValueError(
            f'--size has {len(values)} numbers; give pairs, height and width'
        )
    if values and min(values) < 1:
        raise ValueError('--size: at least 1 pixel')
    return list(zip(values[::2], values[1::2], strict=True))


def read_configs(
    given: list[str], sizes: list[tuple[int, int]]
) -> list[tuple[str, str, tuple[int, int]]]:
    """Find out what to measure.

    Args:
        given (list[str]): Paths, some with ``@HxW``.
        sizes (list[tuple[int]]): For all others, pixels.

    Returns:
        list[tuple]: Name, path and size; names are those of files, or whole
        paths where these are not unique.

    Raises:
        ValueError: If a config has no model, no size or errors.
        FileNotFoundError: If it does not exist.
    """
    wanted: dict[str, list[tuple[int, int]]] = {}
    for text in given:
        path, at, own = text.rpartition('@')
        height, x, width = own.partition('x')
        if at and x and height.isdigit() and width.isdigit():
            found = read_sizes([int(height), int(width)])
        else:
            path, found = text, sizes
        if not found:
            raise ValueError(f'{path}: no size; give --size H W')
        wanted.setdefault(path, []).extend(found)
    for path in wanted:
        try:
            cfg = Config.fromfile(path)
        except SyntaxError as error:
            raise ValueError(f'{path}: is no valid Python: {error}') from None
        if 'model' not in cfg:
            raise ValueError(
                f'{path}: has no model; give the whole config of an '
                'experiment, not one of its parts'
            )
    stems = Counter(Path(path).stem for path in wanted)
    return [
        (path if stems[Path(path).stem] > 1 else Path(path).stem, path, size)
        for path, found in wanted.items()
        for size in dict.fromkeys(found)
    ]


def read_scores(given: list[str], names: set[str]) -> dict[str, float]:
    """Read what scores networks have.

    Args:
        given (list[str]): Files and ``NAME=VALUE``.
        names (set[str]): Of the networks.

    Returns:
        dict[str, float]: By name.

    Raises:
        ValueError: If something is no score, or of no network.
    """
    scores: dict[str, Any] = {}
    for text in given:
        name, is_pair, value = text.rpartition('=')
        if is_pair:
            scores[name] = value
            continue
        try:
            found = json.loads(Path(text).read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f'--scores {text}: {error}') from None
        if not isinstance(found, dict):
            raise ValueError(f'--scores {text}: expected values by name')
        scores.update(found)
    unknown = sorted(set(scores) - names)
    if unknown:
        raise ValueError(
            f'--scores has {unknown[0]!r}, which is not measured; names are '
            f'{", ".join(sorted(names))}'
        )
    try:
        return {name: float(value) for name, value in scores.items()}
    except (TypeError, ValueError):
        raise ValueError(f'--scores: expected numbers, got {scores}') from None


def find_device(name: str | None, folder: Path) -> tuple[torch.device, str]:
    """Find out what to measure on, without memory of a GPU for this process.

    Args:
        name (str, optional): As of :func:`pick_device`.
        folder (Path): For files.

    Returns:
        tuple: The device, and its name.

    Raises:
        ValueError: If it cannot be used.
    """
    if not torch.cuda.is_available():
        return pick_device(name), cpu_name()
    device = torch.device(name or get_device())
    if device.type == 'cpu':
        return device, cpu_name()
    out = folder / 'device.json'
    found = run_alone([_MEASURING / 'device.py', device, out], out)
    if 'problem' in found:
        raise ValueError(found['problem'])
    return device, f'{found["name"]}, host {cpu_name()}'


def make_head(
    args: argparse.Namespace, device: torch.device, name: str
) -> dict[str, Any]:
    """Tell what holds for all rows."""
    load = os.getloadavg()[0]
    head = dict(
        mode=args.mode,
        scale='sizes are those of the image; where a network sees another '
        'size, it is in brackets',
        precision=args.precision,
        batch_size=args.batch_size,
        warmup=args.warmup,
        runs=args.runs,
        rounds=args.rounds,
        threads=args.threads,
        device=str(device),
        device_name=name,
        cpus=os.cpu_count(),
        load_at_start=load,
        torch=torch.__version__,
        weights='random',
    )
    head['text'] = (
        f'{name}, {args.threads} CPU thread(s) of {os.cpu_count()}, load at '
        f'start {load:.1f}; torch {torch.__version__}; {args.precision}, '
        f'batch {args.batch_size}; {_MODES[args.mode]}; random weights. '
        f'{args.rounds} round(s), every measurement a process of its own with '
        f'{args.warmup} warm-up and {args.runs} timed prediction(s); median '
        'and interquartile range of all, memory the highest. '
        f'{head["scale"].capitalize()}. GMACs are per image.'
    )
    return head


def cpu_name() -> str:
    """Return the model of the CPU."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return 'CPU'


def summarise(row: dict[str, Any], device: torch.device) -> None:
    """Fill in the numbers of a row from its runs.

    Args:
        row (dict): With ``runs``, what processes measured.
        device (torch.device): CPU seconds are told for CPUs only.
    """
    runs = row['runs']
    seconds = [one for run in runs for one in run['seconds']]
    low, middle, high = np.percentile(seconds, (25, 50, 75)).tolist()
    megapixels = row['size'][0] * row['size'][1] / 1e6
    row.update(
        latency=middle,
        latency_iqr=high - low,
        fps=row['images'] / middle,
        s_per_mp=middle / row['images'] / megapixels,
        process_scope=runs[-1]['process_scope'],
    )
    add_notes(row, runs[-1]['notes'])
    if device.type == 'cpu':
        row['cpu_seconds'] = float(
            np.median([one for run in runs for one in run['cpu_seconds']])
        )
        row['cpu_s_per_mp'] = row['cpu_seconds'] / row['images'] / megapixels
    for field in ('allocated', 'reserved', 'process', 'added'):
        name = f'{field}_mib'
        values = [run[name] for run in runs if run[name] is not None]
        row[name] = max(values) if values else None


def add_notes(row: dict[str, Any], notes: list[str]) -> None:
    """Add what is to be known about a row, once."""
    row['notes'] = list(dict.fromkeys(row['notes'] + notes))


class Benchmark:
    """Measurements of some networks, round by round.

    Args:
        args (argparse.Namespace): The command line.
        folder (Path): For files of the moment.
        wanted (list[tuple]): Name, path and size of each.
        scores (dict[str, float]): By name.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        folder: Path,
        wanted: list[tuple[str, str, tuple[int, int]]],
        scores: dict[str, float],
    ) -> None:
        self._args = args
        self._out = folder / 'found.json'
        self.device, name = find_device(args.device, folder)
        if args.precision == 'fp16' and self.device.type == 'cpu':
            raise ValueError('--precision fp16 is not for CPUs: use bf16')
        self.head = make_head(args, self.device, name)
        self.rows: list[dict[str, Any]] = [
            dict(
                name=name,
                config=path,
                size=size,
                images=args.batch_size if args.mode == 'whole' else 1,
                score=scores.get(name),
                runs=[],
                notes=[],
            )
            for name, path, size in wanted
        ]

    def run(self) -> None:
        """Measure all; files are there after each measurement."""
        for row in self.rows:
            self._report('cost', row)
            self._add_cost(row, self._measure('cost', row))
        for number in range(1, self._args.rounds + 1):
            for row in self.rows:
                if 'problem' not in row:
                    self._report(f'round {number}', row)
                    self._add_run(row, self._measure('run', row))

    def _measure(self, kind: str, row: dict) -> dict[str, Any]:
        """Measure one network in a process of its own."""
        args = self._args
        on_cpu = kind == 'cost' or self.device.type == 'cpu'
        job = Job(
            row['config'],
            row['size'],
            args.batch_size,
            args.precision,
            args.mode,
            'cpu' if on_cpu else str(self.device),
            args.threads,
            args.warmup,
            args.runs,
        )
        environment = dict(OMP_NUM_THREADS=str(args.threads))
        if on_cpu:
            environment['CUDA_VISIBLE_DEVICES'] = ''
        return run_alone(
            [_MEASURING / 'job.py', kind, json.dumps(asdict(job)), self._out],
            self._out,
            environment,
        )

    def _add_cost(self, row: dict, found: dict) -> None:
        """Take over what fake tensors told."""
        add_notes(row, found.pop('notes', []))
        row.update(found)
        self._save()

    def _add_run(self, row: dict, found: dict) -> None:
        """Take over what a process measured."""
        if 'problem' in found:
            row.update(found)
        else:
            row['runs'].append(found)
            summarise(row, self.device)
        self._save()

    def _save(self) -> None:
        """Write all that is known."""
        if self._args.out is not None:
            write_files(self._args.out, self.head, self.rows)

    def _report(self, what: str, row: dict) -> None:
        """Tell what is being measured."""
        height, width = row['size']
        print(
            f'{what}: {row["name"]}, {height} x {width}',
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """Measure and print; bad input ends it with one sentence."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            wanted = read_configs(args.configs, read_sizes(args.size))
            scores = read_scores(args.scores, {name for name, _, _ in wanted})
            benchmark = Benchmark(args, Path(folder), wanted, scores)
            if args.out is not None:
                args.out.mkdir(parents=True, exist_ok=True)
        except (ValueError, OSError, ImportError) as error:
            sys.exit(f'benchmark.py: {error}')
        try:
            benchmark.run()
        finally:
            # Also what there is when somebody stops it.
            print(page(benchmark.head, benchmark.rows))
    if args.plot:
        draw(
            args.out / 'benchmark.png',
            benchmark.head,
            benchmark.rows,
            args.score_name,
        )
    if all('problem' in row for row in benchmark.rows):
        sys.exit('benchmark.py: every network failed')


if __name__ == '__main__':
    main()
