"""Converting a data set: in parallel, resumable, with a report."""

import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .collect import Collection, Problem, collect, describe
from .decoding import Decoder
from .journal import Journal
from .report import build_report, write_report
from .sources import stream
from .spec import ConversionError, DataSetSpec
from .writing import Result, Task, work

# Part of every recipe: raised when files would come out different.
_VERSION = 1


def convert(
    spec: DataSetSpec,
    sources: Sequence[str | Path],
    out: str | Path,
    jobs: int = 1,
    strict: bool = True,
    split_lists: str | Path | None = None,
    tile_images: bool | None = None,
    decoder: Decoder | None = None,
) -> dict[str, Any]:
    """Convert an official download to the layout of the base config.

    Writes 8-bit label maps of class ids with a palette, images that can be
    read by window, lists of the scenes if lists chose them, and, last,
    ``report.json``. Nothing is fetched from the network. Files that an
    earlier run has finished are kept if they and what they were made of have
    not changed.

    Args:
        spec (DataSetSpec): One of ``DATA_SETS``.
        sources (Sequence[str | Path]): Folders and archives of the download.
        out (str | Path): Folder of the converted data set.
        jobs (int): Processes. Defaults to 1, this one.
        strict (bool): Whether anything wrong is an error; else files with
            problems are left out, and the report names them. Defaults to
            True.
        split_lists (str | Path, optional): Folder of ``train.txt``,
            ``val.txt``, ``test.txt``. Defaults to the field's lists, or the
            splits of the download.
        tile_images (bool, optional): Whether images are made tiled GeoTIFF
            (True) or linked as they are (False). Defaults to: those of which
            windows cannot be read are tiled.
        decoder (Decoder, optional): Replaces that of ``spec``.

    Returns:
        dict: What ``report.json`` holds.

    Raises:
        ConversionError: If the download is not as expected.
        RasterError: If a file cannot be written.
    """
    sources = [Path(source) for source in sources]
    if decoder is not None:
        spec = replace(spec, decoder=decoder)
    found = collect(spec, sources, split_lists and Path(split_lists))
    return convert_scenes(
        spec, found, sources, Path(out), jobs, strict, tile_images
    )


def convert_scenes(
    spec: DataSetSpec,
    found: Collection,
    sources: Sequence[Path],
    out: Path,
    jobs: int = 1,
    strict: bool = True,
    tile_images: bool | None = None,
) -> dict[str, Any]:
    """Convert what was found, see :func:`convert`."""
    if jobs < 1:
        raise ConversionError(f'jobs={jobs}: expected 1 or more processes')
    _stop_on_problems(spec, found.problems, strict)
    if not found.scenes:
        raise ConversionError(
            f'{spec.name}: no scene is left to convert:\n'
            f'{describe(found.problems)}'
        )
    tasks = _plan(spec, found, out, tile_images)
    records: dict[tuple, dict] = {}
    with _staging(out) as staging, Journal(out) as journal:
        left = []
        for task in tasks:
            record = journal.find(task)
            if record is None:
                left.append(task)
            else:
                records[task.scene, task.kind] = record
        stale = journal.others(tasks)
        problems = _run(
            left, jobs, strict, staging, journal, records, len(tasks)
        )
        problems += _check_sizes(spec, records, found)
    if stale:
        found.warnings.append(
            f'{len(stale)} files of an earlier conversion lie in {out}, such '
            f'as {stale[0]}; remove them or use another folder'
        )
    found.problems += problems
    _stop_on_problems(spec, problems, strict, out)
    _drop(spec, found, tasks, records, problems)
    if found.lists and found.problems:
        found.warnings.append(
            'scenes of the lists are left out: read those that are there with '
            "ann_file='splits/train.txt' and so on instead of split='train'"
        )
    report = build_report(spec, found, tasks, records, sources, len(left))
    write_report(report, out, found)
    return report


def _stop_on_problems(
    spec: DataSetSpec,
    problems: Sequence[Problem],
    strict: bool,
    out: Path | None = None,
) -> None:
    """Raise what was found, if one is strict."""
    if not problems or not strict:
        return
    kept = ''
    if out is not None:
        kept = f' Finished files are kept in {out}: run again to go on.'
    raise ConversionError(
        f'{spec.name}: the download is not as expected:\n'
        f'{describe(problems)}\n'
        f'Correct it, or leave these out with --skip.{kept}'
    )


def _plan(
    spec: DataSetSpec,
    found: Collection,
    out: Path,
    tile_images: bool | None,
) -> list[Task]:
    """Name the files to be made."""
    tasks = []
    own = spec.image_suffix != '.tif'
    suffixes = set()
    for scene in found.scenes:
        # Lists choose among images of one folder.
        split = '' if found.lists else scene.split
        names = dict(split=split, scene=scene.name)
        suffix = spec.image_suffix
        if tile_images is not None or own:
            suffix = Path(scene.image.path).suffix
        if tile_images:
            suffix = '.tif'
        suffixes.add(suffix)
        tile = False if own and tile_images is None else tile_images
        image = spec.image_out.format(**names).replace('//', '/')
        label = spec.label_out.format(**names).replace('//', '/')
        key = scene.split, scene.name
        tasks.append(
            Task(
                key,
                'image',
                scene.image,
                out / f'{image}{suffix}',
                f'{_VERSION} image tile={tile}',
                tile=tile,
            )
        )
        tasks.append(
            Task(
                key,
                'label',
                scene.label,
                out / f'{label}{spec.label_suffix}',
                f'{_VERSION} label {spec.decoder!r} {spec.palette}',
                decoder=spec.decoder,
                palette=spec.palette,
            )
        )
    for task in tasks:
        if task.kind == 'label' and _is_source(task):
            raise ConversionError(
                f'{task.out}: is a label file to be converted and would be '
                'overwritten; choose another folder with --out'
            )
    if len(suffixes) > 1:
        raise ConversionError(
            f'{spec.name}: images end in {", ".join(sorted(suffixes))}, but a '
            'data set reads one kind; convert all with --tile-images yes'
        )
    return tasks


def _is_source(task: Task) -> bool:
    """Tell whether a file would replace what it is made of."""
    return task.out.resolve() == task.member.source.resolve()


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Have a folder for unpacked files; empty of what a killed run left."""
    folder = out / '.staging'
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(
    tasks: list[Task],
    jobs: int,
    strict: bool,
    staging: Path,
    journal: Journal,
    records: dict[tuple, dict],
    total: int,
) -> list[Problem]:
    """Do the tasks; return what is wrong with files."""
    problems = []
    with tqdm(total=total, initial=total - len(tasks), unit='file') as bar:
        for result in _results(tasks, jobs, staging):
            task = result.task
            if result.fatal:
                raise ConversionError(
                    f'{task.out}: {result.problem}. Finished files are kept: '
                    'run again to go on.'
                )
            if result.problem:
                kind = f'{task.kind} files that cannot be converted'
                problems.append(
                    Problem(kind, str(task.member), result.problem)
                )
                if strict:
                    break
            else:
                journal.add(result)
                records[task.scene, task.kind] = result.record
            bar.update()
    return problems


def _results(tasks: list[Task], jobs: int, staging: Path) -> Iterator[Result]:
    """Do the tasks, in this process or in several."""
    staged = _stage(tasks, staging)
    if jobs == 1:
        for task, path in staged:
            yield work(task, path, staging)
        return
    # Forked workers have the package imported, which takes seconds.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context(
        'fork' if 'fork' in methods else None
    )
    pool = ProcessPoolExecutor(jobs, context)
    try:
        pending = set()
        for task, path in staged:
            pending.add(pool.submit(work, task, path, staging))
            # Members of compressed archives wait on disk: not too many.
            if len(pending) >= 2 * jobs:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise ConversionError(
            'a worker process was killed, probably for lack of memory; run '
            'again with fewer --jobs: finished files are kept'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _stage(
    tasks: list[Task], staging: Path
) -> Iterator[tuple[Task, Path | None]]:
    """Yield tasks, with their file if it must be unpacked in sequence."""
    streamed: dict[Path, dict] = {}
    for task in tasks:
        if task.member.kind == 'stream':
            streamed.setdefault(task.member.source, {})[task.member] = task
        else:
            yield task, None
    for source, by_member in streamed.items():
        for member, path in stream(source, by_member, staging):
            yield by_member[member], path


def _check_sizes(
    spec: DataSetSpec, records: dict[tuple, dict], found: Collection
) -> list[Problem]:
    """Note images of other sizes than expected, or than their labels."""
    problems, strange = [], []
    for scene in found.scenes:
        key = scene.split, scene.name
        image, label = (
            records.get((key, kind)) for kind in ('image', 'label')
        )
        if image and label and image['shape'] != label['shape']:
            problems.append(
                Problem(
                    'label files of another size than the image',
                    str(scene.label),
                    f'{_size(label)}, but the image has {_size(image)}',
                )
            )
        elif image and spec.sizes and tuple(image['shape']) not in spec.sizes:
            strange.append(
                Problem(
                    'images of another size than expected',
                    str(scene.image),
                    f'{_size(image)} instead of '
                    + ' or '.join(f'{w} x {h}' for h, w in spec.sizes),
                )
            )
    if strange and not spec.certain:
        found.warnings.append(
            f'{describe(strange)}, a size that has not been verified'
        )
        return problems
    return problems + strange


def _size(record: dict) -> str:
    """Return width x height of a file."""
    height, width = record['shape']
    return f'{width} x {height}'


def _drop(
    spec: DataSetSpec,
    found: Collection,
    tasks: list[Task],
    records: dict[tuple, dict],
    problems: Sequence[Problem],
) -> None:
    """Take scenes with a problem out of the data set."""
    bad = {problem.file for problem in problems}
    out_of = {}
    for task in tasks:
        out_of.setdefault(task.scene, []).append(task)
    kept = []
    for scene in found.scenes:
        if bad.isdisjoint((str(scene.image), str(scene.label))):
            kept.append(scene)
            continue
        for task in out_of[scene.split, scene.name]:
            # Images of a download that is converted in place are the user's.
            if not _is_source(task):
                task.out.unlink(missing_ok=True)
            records.pop((task.scene, task.kind), None)
    if not kept:
        raise ConversionError(
            f'{spec.name}: no scene could be converted:\n{describe(problems)}'
        )
    found.scenes = kept
