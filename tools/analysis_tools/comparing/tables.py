"""Rows as Markdown, CSV and JSON."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .results import SCORES

Row = Mapping[str, Any]

# Heading, field, format.
Column = tuple[str, str, str]
_COSTS: tuple[Column, ...] = (
    ('params, M', 'parameters_m', '.2f'),
    ('GMACs', 'gmacs', '.1f'),
    ('predict: planned, MiB', 'planned_mib', '.0f'),
    ('allocated, MiB', 'allocated_mib', '.0f'),
    ('process, MiB', 'process_mib', '.0f'),
    ('s / MP', 's_per_mp', '.2f'),
    ('CPU s / MP', 'cpu_s_per_mp', '.2f'),
    ('train: planned, MiB', 'training_mib', '.0f'),
)
# Of laying windows, see `stitching.py`: heading.
_WAYS = {
    'tiles': 'no overlap, %',
    'overlapped': 'a third of overlap, Gaussian, %',
}
_TRAINING: tuple[Column, ...] = (
    ('process, MiB', 'process_mib', '.0f'),
    ('s / iteration', 'seconds_per_iteration', '.2f'),
    ('iterations', 'iterations', '.0f'),
)


def score_text(value: Sequence[float | None] | None) -> str:
    """Write a mean and, if there are several seeds, its spread."""
    if value is None:
        return ''
    mean, spread = value
    return f'{mean:.1f}' if spread is None else f'{mean:.1f} ± {spread:.1f}'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; the first column is text, others numbers."""
    lines = [head, ['---', *['---:'] * (len(head) - 1)], *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def score_table(rows: Sequence[Row], references: Mapping[str, float]) -> str:
    """Write the accuracies, the best of each column in bold.

    Args:
        rows (Sequence[dict]): Of finished systems.
        references (dict[str, float]): mIoU of what was measured elsewhere.

    Returns:
        str: Lines of Markdown.
    """
    best = {
        name: max(
            (row['scores'][name][0] for row in rows if row['scores'][name]),
            default=None,
        )
        for name, _ in SCORES
    }
    several = any(len(row['seeds']) > 1 for row in rows)
    lines = []
    for row in rows:
        cells = [row['name'], window_text(row)]
        if several:
            cells.append(str(len(row['seeds'])))
        for name, _ in SCORES:
            value = row['scores'][name]
            text = score_text(value)
            is_best = value is not None and value[0] == best[name]
            cells.append(f'**{text}**' if is_best else text)
        lines.append(cells)
    for name, value in references.items():
        empty = [''] * (len(SCORES) - 1)
        before = [''] * (2 if several else 1)
        lines.append([f'*{name}*', *before, f'*{value:.1f}*', *empty])
    head = ['', 'window', 'seeds'] if several else ['', 'window']
    return table([*head, *(text for _, text in SCORES)], lines)


def cost_table(rows: Sequence[Row]) -> str:
    """Write what systems cost in prediction and in training."""
    lines = []
    for row in rows:
        cells = [row['name'], window_text(row)]
        for _, field, form in _COSTS:
            value = row['cost'].get(field)
            cells.append('' if value is None else format(value, form))
        for _, field, form in _TRAINING:
            found = row['training'][field]
            cells.append('' if found is None else format(found[0], form))
        lines.append(cells)
    columns = (*_COSTS, *_TRAINING)
    return table(['', 'window', *(c[0] for c in columns)], lines)


def class_table(rows: Sequence[Row], classes: Sequence[str]) -> str:
    """Write the IoU of every class."""
    lines = [
        [row['name'], *(score_text(value) for value in row['class_iou'])]
        for row in rows
    ]
    return table(['', *(name.replace('_', ' ') for name in classes)], lines)


def window_table(rows: Sequence[Row]) -> str:
    """Write the scores of the same weights with windows of other sizes.

    Args:
        rows (Sequence[dict]): Of all systems and windows; those that are
            chosen are in bold.

    Returns:
        str: Lines of Markdown.
    """
    lines = []
    for row in rows:
        cells = [
            row['name'],
            window_text(row),
            score_text(row['validation']),
            score_text(row['scores']['mIoU']),
            score_text(row['scores']['mIoU_boundary_2px']),
        ]
        planned = row['cost'].get('planned_mib')
        cells.append('' if planned is None else f'{planned:.0f}')
        if row['chosen']:
            cells = [f'**{cell}**' if cell else '' for cell in cells]
        lines.append(cells)
    return table(
        [
            '',
            'window',
            'validation mIoU',
            'test mIoU',
            'boundary IoU, 2 px',
            'predict: planned, MiB',
        ],
        lines,
    )


def stitching_table(rows: Sequence[Row]) -> str:
    """Write how much of a map depends on where windows lie, in percent."""
    lines = [
        [row['name'], window_text(row)]
        + [format(row['stitching'][way], '.1f') for way in _WAYS]
        for row in rows
        if row['stitching']
    ]
    return table(['', 'window', *_WAYS.values()], lines)


def window_text(row: Row) -> str:
    """Write the size of the windows."""
    window = row['window']
    return 'whole' if window is None else '{} x {}'.format(*window)


def write_files(
    folder: Path, head: Mapping[str, Any], rows: Sequence[Row]
) -> None:
    """Write ``comparison.json`` and ``comparison.csv``.

    Args:
        folder (Path): Exists.
        head (dict): What holds for all rows.
        rows (Sequence[dict]): Of all systems and windows.
    """
    (folder / 'comparison.json').write_text(
        json.dumps(dict(head=head, rows=rows), indent=1) + '\n'
    )
    with open(folder / 'comparison.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        fields = [field for _, field, _ in _COSTS]
        training = [field for _, field, _ in _TRAINING]
        scores = [name for name, _ in SCORES]
        writer.writerow(
            ['name', 'config', 'window', 'chosen', 'seeds', 'validation_mIoU']
            + [part for name in scores for part in (name, f'{name}_spread')]
            + fields
            + [f'training_{field}' for field in training]
        )
        for row in rows:
            pairs = [row['scores'][name] or (None, None) for name in scores]
            writer.writerow(
                [
                    row['name'],
                    row['config'],
                    window_text(row),
                    row['chosen'],
                    len(row['seeds']),
                    (row['validation'] or (None,))[0],
                ]
                + [part for pair in pairs for part in pair]
                + [row['cost'].get(field) for field in fields]
                + [
                    (row['training'][field] or (None,))[0]
                    for field in training
                ]
            )
