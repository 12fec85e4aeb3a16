"""What a conversion found and made."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...streaming.part_file import replacing
from ...version import __version__
from .collect import Collection
from .decoding import IGNORE
from .spec import SPLITS, DataSetSpec
from .writing import Task


def build_report(
    spec: DataSetSpec,
    found: Collection,
    tasks: Sequence[Task],
    records: dict[tuple, dict],
    sources: Sequence[Path],
    converted: int,
) -> dict[str, Any]:
    """Sum up a conversion.

    Args:
        spec (DataSetSpec): What was converted.
        found (Collection): Scenes and problems.
        tasks (Sequence[Task]): The files.
        records (dict): Facts about each.
        sources (Sequence[Path]): What was read.
        converted (int): How many files this run has made.

    Returns:
        dict: Fit for JSON.
    """
    splits: dict[str, dict] = {}
    ranges = defaultdict(list)
    sizes: Counter = Counter()
    unmatched = {}
    for scene in found.scenes:
        key = scene.split, scene.name
        image, label = records[key, 'image'], records[key, 'label']
        split = splits.setdefault(
            scene.split or 'all', dict(scenes=0, pixels=Counter())
        )
        split['scenes'] += 1
        split['pixels'].update({int(i): n for i, n in label['pixels'].items()})
        height, width = image['shape']
        sizes[f'{width} x {height}'] += 1
        if label['unmatched']:
            unmatched[str(scene.label)] = label['unmatched']
        for band, limits in enumerate(image.get('range', ())):
            ranges[band].append(limits)
    order = [*(s for s in SPLITS if s in splits), *sorted(splits)]
    return dict(
        data_set=spec.name,
        version=__version__,
        sources=[str(source) for source in sources],
        metainfo=dict(classes=spec.classes, palette=spec.palette),
        ignore_index=IGNORE,
        splits={
            name: _split_report(spec, found, splits[name], name)
            for name in dict.fromkeys(order)
        },
        sizes=dict(sizes.most_common()),
        **_value_range(ranges),
        image_suffix=_suffix(spec, tasks[0]),
        files=len(records),
        files_converted_now=converted,
        bytes_of_images=_bytes(records, 'image'),
        bytes_of_labels=_bytes(records, 'label'),
        unmatched_pixels=sum(unmatched.values()),
        files_with_unmatched_pixels=unmatched,
        skipped=[
            dict(file=p.file, reason=f'{p.kind}: {p.detail}'.rstrip(': '))
            for p in found.problems
        ],
        warnings=found.warnings,
    )


def write_report(report: dict, out: Path, found: Collection) -> None:
    """Write ``report.json``, and the lists if lists chose the scenes."""
    for split in found.lists:
        names = [s.name for s in found.scenes if s.split == split]
        _write(out / f'splits/{split}.txt', '\n'.join(names) + '\n')
    text = json.dumps(report, indent=1, ensure_ascii=False)
    _write(out / 'report.json', text + '\n')


def summary(report: dict, out: Path) -> str:
    """Describe a report in a few lines.

    Args:
        report (dict): Of :func:`build_report`.
        out (Path): Folder of the data set.

    Returns:
        str: Scenes and shares of the classes of each split, what was left
        out, and what to know.
    """
    splits = report['splits']
    lines = [
        ', '.join(f'{n}: {s["scenes"]} scenes' for n, s in splits.items()),
        f'{"share of pixels in %":28}' + ''.join(f'{n:>9}' for n in splits),
    ]
    for name in (*report['metainfo']['classes'], 'ignored'):
        row = f'{name:28}'
        for split in splits.values():
            pixels = split['pixels']
            share = pixels.get(name, 0) / max(sum(pixels.values()), 1)
            row += f'{share:9.2%}'.replace('%', ' ')
        lines.append(row.rstrip())
    for name, split in splits.items():
        if 'list_md5' in split:
            lines.append(
                f'splits/{name}.txt: md5 of the whole list {split["list_md5"]}'
            )
    lines.append(
        f'images (*{report["image_suffix"]}) '
        f'{report["bytes_of_images"] / 2**20:.0f} MiB, labels '
        f'{report["bytes_of_labels"] / 2**20:.0f} MiB; '
        f'{report["files_converted_now"]} of {report["files"]} files '
        'converted now'
    )
    if 'value_range' in report:
        lines.append(
            'value_range of LoadRaster, percentiles 2-98 by band: '
            f'{report["value_range"]}'
        )
    if report['unmatched_pixels']:
        lines.append(
            f'{report["unmatched_pixels"]} pixels in '
            f'{len(report["files_with_unmatched_pixels"])} files hold no '
            'known colour and are ignored'
        )
    if report['skipped']:
        first = report['skipped'][0]
        lines.append(
            f'{len(report["skipped"])} left out, e.g. {first["file"]}: '
            f'{first["reason"]}'
        )
    lines += [f'warning: {text}' for text in report['warnings']]
    lines.append(f'{out} is complete; details are in {out}/report.json')
    return '\n'.join(lines)


def _split_report(
    spec: DataSetSpec, found: Collection, split: dict, name: str
) -> dict[str, Any]:
    """Sum up a split."""
    pixels = split['pixels']
    report = dict(
        scenes=split['scenes'],
        pixels={
            label: pixels.get(i, 0) for i, label in enumerate(spec.classes)
        },
    )
    report['pixels']['ignored'] = pixels.get(IGNORE, 0)
    if name in found.list_md5:
        report['list_md5'] = found.list_md5[name]
    return report


def _value_range(ranges: dict[int, list]) -> dict[str, list]:
    """Return the middle of what images that are not 8-bit hold, by band."""
    if not ranges:
        return {}
    bands = []
    for limits in ranges.values():
        lows, highs = (sorted(side) for side in zip(*limits))
        bands.append((lows[len(lows) // 2], highs[len(highs) // 2]))
    return dict(value_range=bands)


def _suffix(spec: DataSetSpec, task: Task) -> str:
    """Return the end of the image names, as a data set wants it."""
    return spec.image_out.rpartition('{scene}')[2] + task.out.suffix


def _bytes(records: dict[tuple, dict], kind: str) -> int:
    """Return the size of all files of a kind."""
    return sum(r['bytes'] for (_, k), r in records.items() if k == kind)


def _write(path: Path, text: str) -> None:
    """Write a text; it gets its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text, encoding='utf-8')
