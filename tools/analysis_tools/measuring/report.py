"""Measurements of networks as tables, files and a picture."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

# Of the table: heading, field, format.
_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ('score', 'score', '.4g'),
    ('classes', 'classes', 'd'),
    ('params, M', 'parameters_m', '.2f'),
    ('GMACs', 'gmacs', '.1f'),
    ('live activations, MiB', 'activations_mib', '.0f'),
    ('planned, MiB', 'planned_mib', '.0f'),
    ('allocated, MiB', 'allocated_mib', '.0f'),
    ('reserved, MiB', 'reserved_mib', '.0f'),
    ('whole process, MiB', 'process_mib', '.0f'),
    ('added to host, MiB', 'added_mib', '.0f'),
    ('latency, s', 'latency', '.3f'),
    ('IQR, s', 'latency_iqr', '.3f'),
    ('CPU s', 'cpu_seconds', '.2f'),
    ('FPS', 'fps', '.2f'),
    ('s / MP', 's_per_mp', '.3f'),
    ('CPU s / MP', 'cpu_s_per_mp', '.3f'),
)
# Both protocols of the literature.
_MEMORIES = (
    ('process_mib', 'memory of the whole process, MiB'),
    ('allocated_mib', 'allocated by PyTorch at the peak, MiB'),
)
# What to draw against them: the first of which there is any.
_HEIGHTS = (
    ('score', ''),
    ('cpu_s_per_mp', 'CPU seconds per megapixel'),
    ('s_per_mp', 'seconds per megapixel'),
)
_MARKERS = 'osD^vPpX'


def size_text(row: Row) -> str:
    """Write the size of the image, and what is seen of it."""
    height, width = row['size']
    text = f'{height} x {width}'
    seen = tuple(row.get('seen') or row['size'])
    if row.get('windows', 1) > 1:
        text += f' ({row["windows"]} windows of {seen[0]} x {seen[1]})'
    elif seen != (height, width):
        text += f' (seen as {seen[0]} x {seen[1]})'
    return text


def markdown(rows: Sequence[Row]) -> str:
    """Write rows as a table; columns that nobody has are left out.

    Args:
        rows (Sequence[dict]): Fields by name; ``problem`` of those that
            failed.

    Returns:
        str: Lines of Markdown.
    """
    columns = [
        column
        for column in _COLUMNS
        if any(row.get(column[1]) is not None for row in rows)
    ]
    lines = [
        '| ' + ' | '.join(['config', 'pixels', *(c[0] for c in columns)]),
        '|---|---|' + '---:|' * len(columns),
    ]
    lines[0] += ' |'
    for row in rows:
        cells = [row['name'], size_text(row)]
        for _, field, form in columns:
            value = row.get(field)
            cells.append('' if value is None else format(value, form))
        if 'problem' in row:
            cells[1] += f': **{row["problem"].replace("|", "/")}**'
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def page(head: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Write what holds for all rows, the table, and notes to its rows.

    Args:
        head (dict): ``text`` for people.
        rows (Sequence[dict]): As for :func:`markdown`; with ``notes``.

    Returns:
        str: Lines of Markdown.
    """
    notes = [
        f'* {row["name"]}, {size_text(row)}: {note}'
        for row in rows
        for note in row['notes']
    ]
    parts = [head['text'], markdown(rows)]
    if notes:
        parts.append('\n'.join(notes))
    return '\n\n'.join(parts)


def write_files(folder: Path, head: Mapping[str, Any], rows: Sequence[Row]):
    """Write ``benchmark.json``, ``.csv`` and ``.md``.

    Args:
        folder (Path): Exists.
        head (dict): What holds for all rows; ``text`` for people.
        rows (Sequence[dict]): As for :func:`markdown`.
    """
    (folder / 'benchmark.json').write_text(
        json.dumps(dict(head=head, rows=rows), indent=1)
    )
    (folder / 'benchmark.md').write_text(page(head, rows) + '\n')
    with open(folder / 'benchmark.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        fields = [field for _, field, _ in _COLUMNS]
        writer.writerow(
            ['name', 'config', 'height', 'width', *fields, 'problem']
        )
        for row in rows:
            writer.writerow(
                [
                    row['name'],
                    row['config'],
                    *row['size'],
                    *(row.get(field) for field in fields),
                    row.get('problem'),
                ]
            )


def draw(
    path: Path, head: Mapping[str, Any], rows: Sequence[Row], score_name: str
) -> None:
    """Draw scores, or without any the time, against both memories.

    Args:
        path (Path): Picture to write.
        head (dict): What holds for all rows.
        rows (Sequence[dict]): As for :func:`markdown`; sizes of one network
            are joined by a line, and failures left out.
        score_name (str): What scores are.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    field, label = next(
        (
            height
            for height in _HEIGHTS
            if any(_has(row, height[0]) for row in rows)
        ),
        _HEIGHTS[-1],
    )
    figure = Figure(figsize=(10, 5), layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(_title(head, rows), fontsize='medium')
    panels = figure.subplots(1, len(_MEMORIES), sharey=True)
    labels = _labels(rows)
    for axes, (memory, text) in zip(panels, _MEMORIES, strict=True):
        for number, name in enumerate(labels):
            points = sorted(
                (row[memory], row[field])
                for row in rows
                if row['name'] == name and _has(row, memory, field)
            )
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    # Not by colours alone.
                    marker=_MARKERS[number % len(_MARKERS)],
                    markersize=8,
                    alpha=0.9,
                    markeredgecolor='white',
                    label=labels[name],
                )
        axes.set(xlabel=text)
        axes.set_xlim(left=0)
        axes.grid(color='0.9')
        axes.set_axisbelow(True)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set(ylabel=label or score_name)
    if field != 'score':
        panels[0].set_ylim(bottom=0)
    handles, shown = panels[0].get_legend_handles_labels()
    if shown:
        figure.legend(
            handles,
            shown,
            loc='outside lower center',
            ncols=2,
            fontsize='small',
            frameon=False,
        )
    figure.savefig(path, dpi=120)


def _labels(rows: Sequence[Row]) -> dict[str, str]:
    """Return what the legend says by name: sizes, too, if they differ."""
    sizes: dict[str, list[str]] = {}
    for row in rows:
        sizes.setdefault(row['name'], []).append(
            f'{row["size"][0]} x {row["size"][1]}'
        )
    if len({tuple(found) for found in sizes.values()}) == 1:
        return {name: name for name in sizes}
    return {
        name: f'{name}, {", ".join(found)}' for name, found in sizes.items()
    }


def _title(head: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Say what the points have in common."""
    sizes = dict.fromkeys(
        f'{row["size"][0]} x {row["size"][1]}' for row in rows
    )
    return (
        f'{", ".join(sizes)} pixels, {head["mode"]}; {head["precision"]}, '
        f'batch {head["batch_size"]}; {head["device_name"]}'
    )


def _has(row: Row, *fields: str) -> bool:
    """Tell whether a row has all of some fields."""
    return all(row.get(field) is not None for field in fields)
