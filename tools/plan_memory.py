"""Tell what a config will need in memory, and what of it fits a budget.

Runs the model's code on fake tensors: no GPU, no data, no weights.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmseg_uhr.memory import parse_budget, total_memory
from mmseg_uhr.planning import Planned, Planner, config_lines, sweep

_MIB = 2**20
_NO_LIMIT = 2**60
_SHARES = (0.5, 0.75, 1.0)
_BATCHES = (1, 2, 4)
_MULTIPLE = 32


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument(
        '--mode', choices=('predict', 'train'), default='predict'
    )
    parser.add_argument(
        '--budget', help="memory of the device to use: '8GiB', or 0.9 of it"
    )
    parser.add_argument(
        '--device-memory',
        help="memory of the device that is planned for, such as '8GiB'; "
        'needed for a budget that is a share where there is no GPU',
    )
    for name, text in (
        ('--image-size', 'size of the scenes; a stream keeps a band of rows'),
        (
            '--crop-size',
            'size of a window, in training as the network sees it; default: '
            'what the config says',
        ),
    ):
        parser.add_argument(
            name, type=int, nargs=2, metavar=('H', 'W'), help=text
        )
    parser.add_argument(
        '--batch-size',
        type=int,
        metavar='N',
        help='windows of a batch; default: what the config says',
    )
    parser.add_argument('--dtype', choices=('fp32', 'fp16', 'bf16'))
    parser.add_argument(
        '--sweep',
        action='store_true',
        help='print a table of smaller windows and other batches',
    )
    parser.add_argument(
        '--plot', metavar='FILE.png', help='picture of the sweep to write'
    )
    parser.add_argument(
        '--apply',
        metavar='OUT.py',
        help='config to write that inherits CONFIG and fits the budget',
    )
    parser.add_argument(
        '--json', metavar='FILE', help='file to write all numbers to'
    )
    args = parser.parse_args()
    if args.apply and not args.budget:
        parser.error('--apply writes what fits: give a --budget')
    for name in ('crop_size', 'image_size'):
        value = getattr(args, name)
        if value is not None:
            if min(value) < 1:
                parser.error(f'--{name.replace("_", "-")}: at least 1 pixel')
            setattr(args, name, tuple(value))
    if args.batch_size is not None and args.batch_size < 1:
        parser.error('--batch-size: at least 1')
    return args


def read_budget(budget: str, device_memory: str | None) -> int:
    """Understand a budget, also for a device that is not here.

    Args:
        budget (str): See :func:`mmseg_uhr.memory.parse_budget`.
        device_memory (str, optional): Size of the device's memory.

    Returns:
        int: Bytes.

    Raises:
        ValueError: If it makes no sense, or is a share of nothing known.
    """
    if device_memory is not None:
        return parse_budget(budget, parse_budget(device_memory, _NO_LIMIT))
    if torch.cuda.is_available():
        return parse_budget(budget, total_memory('cuda'))
    size = parse_budget(budget, _NO_LIMIT)
    if size != parse_budget(budget, 2 * _NO_LIMIT):
        raise ValueError(
            f'--budget {budget} is a share, but there is no GPU here: tell '
            "its memory with --device-memory, such as '8GiB'"
        )
    return size


def show(planned: Planned, image_size: tuple[int, int] | None) -> None:
    """Print a plan."""
    print(planned.plan)
    if planned.beyond:
        print(
            'class ids, and logits that are averaged or resized: '
            f'{planned.beyond / _MIB:.1f} MiB'
        )
    if planned.band:
        width = '' if image_size is None else f' {image_size[1]} pixels wide'
        print(
            f'band of logits for a scene{width}, on the {planned.band_on}: '
            f'{planned.band / _MIB:.1f} MiB'
        )
    if planned.beyond or planned.band:
        print(f'device in all: {planned.device_bytes / _MIB:.1f} MiB')


def show_fit(planned: Planned, budget: int) -> None:
    """Print what fits a budget."""
    print(f'\nbudget {budget / _MIB:.0f} MiB:')
    for note in planned.notes:
        print(f'  {note}')
    print(f'  needs {planned.device_bytes / _MIB:.1f} MiB')
    if planned.changes:
        print('paste into the config:\n')
        print('\n'.join(config_lines(planned.changes)))
    else:
        print('  nothing to change')


def write_config(out: Path, base: Path, changes: dict[str, Any]) -> None:
    """Write a config that inherits another one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    relative = Path(os.path.relpath(base.resolve(), out.parent.resolve()))
    text = '\n'.join(config_lines(changes))
    out.write_text(f'_base_ = [{relative.as_posix()!r}]\n{text}\n')


def swept_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Choose window sizes up to one."""
    return list(
        dict.fromkeys(
            tuple(
                max(round(side * share / _MULTIPLE), 1) * _MULTIPLE
                if share < 1
                else side
                for side in size
            )
            for share in _SHARES
        )
    )


def show_sweep(
    found: dict[tuple[int, int], dict[int, int]], batches: list[int]
) -> None:
    """Print a table of peaks."""
    print('\npeak in MiB, by window and batch')
    print(f'{"":>12}' + ''.join(f'{batch:>10}' for batch in batches))
    for (height, width), row in found.items():
        cells = (
            f'{row[batch] / _MIB:.0f}' if batch in row else '-'
            for batch in batches
        )
        print(
            f'{f"{height}x{width}":>12}'
            + ''.join(f'{cell:>10}' for cell in cells)
        )


def plot_sweep(
    found: dict[tuple[int, int], dict[int, int]],
    batches: list[int],
    budget: int | None,
    path: str,
) -> None:
    """Draw peaks over the pixels of a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for batch in batches:
        points = [
            (height * width / 1e6, row[batch] / 2**30)
            for (height, width), row in found.items()
            if batch in row
        ]
        axes.plot(*zip(*points, strict=True), marker='o', label=f'{batch}')
    if budget is not None:
        axes.axhline(
            budget / 2**30, linestyle='--', color='black', label='budget'
        )
    axes.set(xlabel='window, megapixels', ylabel='peak memory, GiB')
    axes.legend(title='batch')
    figure.savefig(path, dpi=150)


def run(args: argparse.Namespace) -> None:
    """Plan, print and write."""
    budget = None
    if args.budget is not None:
        budget = read_budget(args.budget, args.device_memory)
    path = Path(args.config)
    planner = Planner(
        Config.fromfile(path),
        args.mode,
        args.dtype,
        args.crop_size,
        args.image_size,
        args.batch_size,
    )
    planned = planner.as_configured()
    show(planned, args.image_size)
    numbers: dict[str, Any] = dict(
        config=args.config,
        plan=planned.plan.to_dict(),
        beyond=planned.beyond,
        band=planned.band,
        device_bytes=planned.device_bytes,
    )
    if args.sweep or args.plot:
        batches = sorted({*_BATCHES, planner.batch_size})
        found = sweep(planner, swept_sizes(planner.crop_size), batches)
        show_sweep(found, batches)
        numbers['sweep'] = [
            dict(size=size, batch_size=batch, total=total)
            for size, row in found.items()
            for batch, total in row.items()
        ]
        if args.plot:
            plot_sweep(found, batches, budget, args.plot)
    fitting = None
    if budget is not None:
        fitting = planner.fit(budget)
        show_fit(fitting, budget)
        numbers.update(
            budget=budget,
            fit=dict(
                plan=fitting.plan.to_dict(),
                device_bytes=fitting.device_bytes,
                changes=fitting.changes,
                notes=fitting.notes,
            ),
        )
    if args.apply:
        write_config(Path(args.apply), path, fitting.changes)
    if args.json:
        Path(args.json).write_text(json.dumps(numbers, indent=2))


def main() -> None:
    """Run the tool; bad input ends it with one sentence."""
    args = parse_args()
    # Models tell at length what does not matter without weights.
    MMLogger.get_current_instance().setLevel('ERROR')
    warnings.filterwarnings('ignore', category=UserWarning, module='mmseg')
    try:
        run(args)
    except (ValueError, FileNotFoundError, ImportError) as error:
        sys.exit(f'plan_memory.py: {error}')


if __name__ == '__main__':
    main()
