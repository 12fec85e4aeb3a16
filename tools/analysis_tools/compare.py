"""Compare systems on one data set at equal training: table, plots, pictures.

Trains and tests every system with tools/train.py and tools/test.py, each for
the same iterations or the same time, measures what predicting a test scene
costs, and writes what was found. Finished parts are kept and found again by
what was trained, on which data; a run that was stopped goes on from its last
checkpoint when the same command is given again.
"""

import argparse
import fcntl
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine
import mmseg
import torch
from benchmark import cpu_name
from comparing.costs import measure
from comparing.pages import write_page
from comparing.plots import plot_classes, plot_memory
from comparing.presets import PRESETS, System
from comparing.results import choose, make_row
from comparing.runs import Budget, Run, make_run
from comparing.scenes import (
    Scene,
    boundary_mask,
    densest,
    describe_data,
    load_scene,
    on_seam,
    scene_size,
    small_objects,
)
from comparing.sheets import write_sheet
from comparing.stitching import measure_stitching
from comparing.tables import (
    class_table,
    cost_table,
    score_table,
    stitching_table,
    window_table,
    write_files,
)
from comparing.training import train_all
from mmengine.config import Config
from mmengine.device import get_device
from mmseg.utils import register_all_modules

import mmseg_uhr
from mmseg_uhr.rasters import open_raster

_METRICS: tuple[dict[str, Any], ...] = (
    dict(type='mmseg_uhr.UHRIoUMetric', iou_metrics=['mIoU']),
    dict(type='mmseg_uhr.BoundaryIoUMetric', widths=(2,)),
    dict(type='mmseg_uhr.TrimapIoUMetric', widths=(2,)),
    dict(type='mmseg_uhr.ObjectSizeIoUMetric', edges=(32, 1024)),
)
_SMALL = 32
# Windows of pictures, (h, w) in pixels.
_WIDE, _CLOSE = (300, 400), (90, 120)
Size = tuple[int, int]


def read_size(text: str) -> Size:
    """Read ``HxW``."""
    height, x, width = text.partition('x')
    if not (x and height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f'{text!r} is no HxW such as 512x768')
    return int(height), int(width)


def read_reference(text: str) -> tuple[str, float]:
    """Read ``NAME=VALUE``."""
    name, _, value = text.rpartition('=')
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no NAME=VALUE such as "boosted trees=47.4"'
        ) from None


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'configs',
        nargs='*',
        metavar='[NAME=]CONFIG',
        help='systems, beside those of the preset; all of one data set',
    )
    parser.add_argument(
        '--preset',
        choices=PRESETS,
        help='cpu: narrow networks, two hours on two cores; gpu: the '
        'schedules of 20 000 iterations; cpu-wide: HGN and two others of '
        'published widths, from the crops of cpu; hgn-parts: the narrow HGN '
        'with parts left out or exchanged',
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        '--iterations', type=int, help='of every system, whatever its config'
    )
    budget.add_argument('--minutes', type=float, help='of every system')
    parser.add_argument(
        '--clock',
        choices=('wall', 'cpu'),
        default='wall',
        help='what tells the minutes: cpu counts the time of processors, for '
        'machines that do other work, too',
    )
    parser.add_argument(
        '--seeds', type=int, default=1, help='runs of every system'
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='runs that train at a time'
    )
    parser.add_argument(
        '--threads', type=int, default=1, help='of the CPU for each of them'
    )
    parser.add_argument(
        '--windows',
        type=read_size,
        nargs='+',
        default=[],
        metavar='HxW',
        help='test the same weights with these windows as well, where they '
        "are smaller than the config's; the validation scenes choose",
    )
    parser.add_argument(
        '--raster',
        type=Path,
        help='large raster: costs are of its size rather than of that of a '
        'test scene, and how windows of it fit together is measured',
    )
    parser.add_argument(
        '--references',
        type=read_reference,
        nargs='+',
        default=[],
        metavar='NAME=MIOU',
        help='scores from elsewhere to print and draw beside ours',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/compare'),
        help='folder for runs, tables and pictures',
    )
    parser.add_argument(
        '--docs',
        type=Path,
        metavar='FOLDER',
        help='also for tables and pictures; the words of its comparison.md '
        'stay, the marked parts are written',
    )
    parser.add_argument(
        '--no-costs',
        action='store_true',
        help='measure no cost, such as on a busy machine: write what is known',
    )
    parser.add_argument(
        '--report-only',
        action='store_true',
        help='train, test and measure nothing: write what is there',
    )
    args = parser.parse_args()
    if not args.configs and args.preset is None:
        parser.error('nothing to compare: give --preset or configs')
    for name in ('seeds', 'jobs', 'threads'):
        if getattr(args, name) < 1:
            parser.error(f'--{name}: at least 1')
    if args.raster is not None and not args.raster.is_file():
        parser.error(f'--raster {args.raster}: no such file')
    for name in ('iterations', 'minutes'):
        value = getattr(args, name)
        if value is not None and not value > 0:
            parser.error(f'--{name}: more than 0')
    return args


def read_systems(
    preset: str | None, given: Sequence[str]
) -> dict[str, System]:
    """Find out what to compare.

    Args:
        preset (str, optional): Its name.
        given (Sequence[str]): ``CONFIG`` or ``NAME=CONFIG``.

    Returns:
        dict[str, System]: By name.

    Raises:
        ValueError: If a name is there twice.
    """
    pairs = list(PRESETS[preset].items()) if preset else []
    for text in given:
        name, _, path = text.rpartition('=')
        pairs.append((name or Path(path).stem, System(path)))
    for name, number in Counter(name for name, _ in pairs).items():
        if number > 1:
            raise ValueError(
                f'{name!r} is there {number} times; give names as NAME=CONFIG'
            )
    return dict(pairs)


def smaller_windows(cfg: Config, windows: Sequence[Size]) -> list[dict]:
    """Return overrides of ``test_cfg`` for windows within the config's own.

    The overlap keeps its share. Networks that see contexts of fixed sizes, or
    windows at another scale, have no others.
    """
    own, step = (cfg.model.test_cfg.get(k) for k in ('crop_size', 'stride'))
    if own is None or cfg.model.get('views'):
        return []
    return [
        dict(
            crop_size=size,
            stride=tuple(
                max(round(n * s / o), 1)
                for n, s, o in zip(size, step, own, strict=True)
            ),
        )
        for size in windows
        if size[0] <= own[0] and size[1] <= own[1] and size != tuple(own)
    ]


class Comparison:
    """Systems, their runs, and the report on them.

    Args:
        args (argparse.Namespace): The command line.

    Raises:
        ValueError: If systems are not of one data set, or names repeat.
        FileNotFoundError: If a config or the data are missing.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self.budget = Budget(args.iterations, args.minutes, args.clock)
        systems = read_systems(args.preset, args.configs)
        self.runs: list[Run] = []
        # By system and window: on the test and on the validation scenes.
        self._tests: dict[tuple, list[Run]] = {}
        self._validations: dict[tuple, list[Run]] = {}
        for seed in range(args.seeds):
            for name, system in systems.items():
                run = self._run(name, system, seed)
                self.runs.append(run)
                self._tests.setdefault((name, run.window), []).append(run)
                for other in smaller_windows(run.cfg, args.windows):
                    key = name, other['crop_size']
                    for split, found in (
                        ('test', self._tests),
                        ('val', self._validations),
                    ):
                        found.setdefault(key, []).append(
                            self._run(name, system, seed, other, split)
                        )
        datasets = {run.cfg.test_dataloader.dataset.type for run in self.runs}
        if len(datasets) > 1:
            raise ValueError(
                f'systems of several data sets: {", ".join(sorted(datasets))}'
            )

    def _run(
        self,
        name: str,
        system: System,
        seed: int,
        test_cfg: dict | None = None,
        split: str = 'test',
    ) -> Run:
        """Resolve a system."""
        return make_run(
            name,
            system,
            seed,
            self.budget,
            _METRICS,
            self._args.out,
            test_cfg,
            split,
        )

    def train(self) -> list[str]:
        """Train and test; return what went wrong."""
        args = self._args
        problems = train_all(self.runs, args.jobs, args.threads)
        trained = [
            run
            for runs in (*self._tests.values(), *self._validations.values())
            for run in runs
            if run.trained_file.exists()
        ]
        return problems + train_all(trained, args.jobs, args.threads)

    def report(self, folders: Sequence[Path]) -> str:
        """Measure costs of what is trained, and write everything.

        Args:
            folders (Sequence[Path]): To write to; made if they are missing.

        Returns:
            str: The tables in Markdown.
        """
        entries, classes, palette = describe_data(self.runs[0].cfg)
        size = scene_size(entries[0])
        raster = self._args.raster
        large = size if raster is None else open_raster(raster).shape
        rows = self._rows(large)
        chosen = [row for row in rows if row['chosen']]
        head = self._head(size, len(entries))
        references = dict(self._args.references)
        parts = {
            'conditions': head['text'],
            'scores': score_table(chosen, references),
            'costs': cost_table(chosen),
            'windows': window_table(rows),
            'classes': class_table(chosen, classes),
            'stitching': stitching_table(chosen),
        }
        notes = [
            f'* {row["name"]}: {note}'
            for row in rows
            for note in row['cost'].get('notes', [])
        ]
        parts['notes'] = '\n'.join(notes) or 'No notes.'
        if not self._args.windows:
            del parts['windows']
        if not any(row['stitching'] for row in rows):
            del parts['stitching']
        if not any(row['cost'].get('gmacs') for row in rows):
            del parts['costs']
        title = f'{self.budget} each, {head["seeds"]} seed(s)'
        runs = [self._tests[row['name'], row['window']][0] for row in chosen]
        scene = load_scene(entries[0], runs, classes, palette)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            write_files(folder, head, rows)
            write_page(folder / 'comparison.md', 'Comparison', parts)
            plot_memory(folder / 'memory.png', title, rows, references)
            plot_classes(
                folder / 'classes.png', title, chosen, classes, palette
            )
            write_sheets(folder, scene, runs[0])
        return '\n\n'.join(parts.values())

    def _rows(self, size: Size) -> list[dict[str, Any]]:
        """Make the rows of all systems and windows, and what they cost."""
        found = {
            key: make_row(runs, self._validations.get(key, ()))
            for key, runs in self._tests.items()
        }
        rows = {key: row for key, row in found.items() if row is not None}
        choose(list(rows.values()))
        args = self._args
        device, anew = get_device(), not (args.no_costs or args.report_only)
        for key, row in rows.items():
            run = self._tests[key][0]
            row['cost'] = measure(
                run,
                size,
                device,
                args.threads,
                thoroughly=row['chosen'],
                anew=anew,
            )
            if row['chosen'] and args.raster is not None:
                row['stitching'] = measure_stitching(
                    run, args.raster, device, anew
                )
        order = list(dict.fromkeys(run.name for run in self.runs))
        return sorted(rows.values(), key=lambda row: order.index(row['name']))

    def _head(self, size: Size, scenes: int) -> dict[str, Any]:
        """Tell what holds for all rows."""
        args = self._args
        device = get_device()
        name = cpu_name()
        if device == 'cuda':
            name = f'{torch.cuda.get_device_name()}, host {name}'
        head = dict(
            budget=str(self.budget),
            seeds=args.seeds,
            jobs=args.jobs,
            threads=args.threads,
            device=name,
            cpus=os.cpu_count(),
            scene=size,
            scenes=scenes,
            python=platform.python_version(),
            torch=torch.__version__,
            mmengine=mmengine.__version__,
            mmseg=mmseg.__version__,
            mmseg_uhr=mmseg_uhr.__version__,
        )
        head['text'] = (
            f'{head["budget"]} of each system, {args.seeds} seed(s); '
            f'{args.jobs} training(s) at a time with {args.threads} CPU '
            f'thread(s) each. {scenes} test scene(s) of {size[0]} x {size[1]} '
            f'pixels. {name}, {os.cpu_count()} cores; '
            f'Python {head["python"]}, torch {head["torch"]}, mmengine '
            f'{head["mmengine"]}, mmseg {head["mmseg"]}, mmseg_uhr '
            f'{head["mmseg_uhr"]}. Scores are percent'
            + (
                ', mean ± standard deviation over the seeds that are finished.'
                if args.seeds > 1
                else '.'
            )
        )
        return head


def write_sheets(folder: Path, scene: Scene, run: Run) -> None:
    """Draw the windows with most boundaries, small objects and a seam.

    Args:
        folder (Path): For ``windows_1.jpg`` and so on.
        scene (Scene): With predictions.
        run (Run): Whose windows meet at the seam.
    """
    lines = boundary_mask(scene.labels)
    boxes = densest(lines, _WIDE, 2)
    sheets = [
        (f'windows_{number}', box, 'where boundaries are densest', None)
        for number, box in enumerate(boxes, 1)
    ]
    small = small_objects(scene.labels, scene.ignored, _SMALL)
    boxes = densest(small, _CLOSE, 2)
    text = f'where objects under {_SMALL} pixels are densest'
    sheets += [
        (f'small_{number}', box, text, None)
        for number, box in enumerate(boxes, 1)
    ]
    step = run.cfg.model.test_cfg.get('stride')
    if step and step[0] < len(scene.labels):
        # The one next to the middle.
        row = max(round(len(scene.labels) / 2 / step[0]), 1) * step[0]
        text = f'across row {row}, where windows of {run.name} meet'
        sheets.append(('seam', on_seam(lines, row, _CLOSE), text, row))
    for name, box, text, seam in sheets:
        y, x, h, w = box
        title = (
            f'{scene.name}, rows {y}–{y + h - 1}, columns {x}–{x + w - 1}: '
            f'{text}'
        )
        write_sheet(folder / f'{name}.jpg', title, scene, box, seam)


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Keep a second process from training the same runs.

    Args:
        out (Path): Folder of the runs; the lock ends with the process.

    Raises:
        ValueError: If there is one already.
    """
    out.mkdir(parents=True, exist_ok=True)
    with open(out / 'lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f'{out}: another compare.py trains there; wait for it, or '
                'write what is there with --report-only'
            ) from None
        yield


def main() -> None:
    """Compare; bad input ends it with one sentence."""
    args = parse_args()
    register_all_modules()
    problems: list[str] = []
    try:
        comparison = Comparison(args)
        if not args.report_only:
            with only_one(args.out):
                problems = comparison.train()
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'compare.py: {error}')
    if not any(run.scores_file.exists() for run in comparison.runs):
        problems.append('nothing is trained and tested yet')
    else:
        folders = [args.out] if args.docs is None else [args.out, args.docs]
        print(comparison.report(folders))
    if problems:
        sys.exit('\n'.join(f'compare.py: {one}' for one in problems))


if __name__ == '__main__':
    main()
