"""Plots of a comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Row = Mapping[str, Any]

# More than there are colours, so that no two systems look alike.
_MARKERS = 'osD^vPpX*h<>d8'
_GREY = '0.45'


def markers(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return marker and colour of every system, the same in all plots."""
    return {
        name: dict(
            marker=_MARKERS[number % len(_MARKERS)], color=f'C{number % 10}'
        )
        for number, name in enumerate(dict.fromkeys(r['name'] for r in rows))
    }


def plot_memory(
    path: Path,
    title: str,
    rows: Sequence[Row],
    references: Mapping[str, float],
) -> None:
    """Draw accuracy and boundary quality against memory of prediction.

    Args:
        path (Path): Picture to write.
        title (str): First line.
        rows (Sequence[dict]): Of all systems and windows; a system's are
            joined by a line, and the chosen one is large.
        references (dict[str, float]): mIoU of what was measured elsewhere.
    """
    figure = Figure(figsize=(12, 5.6), layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize='medium')
    styles = markers(rows)
    panels = figure.subplots(1, 2)
    heights = (
        ('mIoU', 'mIoU, %'),
        ('mIoU_boundary_2px', 'boundary IoU at 2 px, %'),
    )
    for axes, (score, label) in zip(panels, heights, strict=True):
        for name, style in styles.items():
            points = sorted(
                (row['cost']['planned_mib'], *row['scores'][score])
                for row in rows
                if row['name'] == name
                and row['cost'].get('planned_mib')
                and row['scores'][score]
            )
            if not points:
                continue
            x, y, spread = zip(*points, strict=True)
            axes.plot(x, y, lw=1, alpha=0.6, color=style['color'])
            axes.errorbar(
                x,
                y,
                [one or 0 for one in spread],
                ls='',
                ms=4,
                elinewidth=1,
                **style,
            )
        for row in rows:
            if row['chosen'] and row['cost'].get('planned_mib'):
                axes.plot(
                    row['cost']['planned_mib'],
                    row['scores'][score][0],
                    ms=10,
                    ls='',
                    markeredgecolor='white',
                    label=row['name'],
                    **styles[row['name']],
                )
        axes.set(
            xlabel='memory planned for prediction, MiB',
            ylabel=label,
            xscale='log',
        )
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_formatter('{x:g}')
        axes.tick_params(which='minor', labelsize=7)
        axes.grid(color='0.9', which='both')
        axes.set_axisbelow(True)
        axes.spines[['top', 'right']].set_visible(False)
    for name, value in references.items():
        panels[0].axhline(value, color=_GREY, lw=1, ls=':')
        panels[0].annotate(
            name,
            (1, value),
            xycoords=('axes fraction', 'data'),
            ha='right',
            va='bottom',
            fontsize='x-small',
            color=_GREY,
        )
    handles, labels = panels[0].get_legend_handles_labels()
    if labels:
        figure.legend(
            handles,
            labels,
            loc='outside lower center',
            ncols=5,
            fontsize='small',
            frameon=False,
        )
    figure.savefig(path, dpi=110)


def plot_classes(
    path: Path,
    title: str,
    rows: Sequence[Row],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> None:
    """Draw the IoU of every class, a column of points each.

    Args:
        path (Path): Picture to write.
        title (str): First line.
        rows (Sequence[dict]): Of finished systems.
        classes (Sequence[str]): Names.
        palette (Sequence): RGB of the classes.
    """
    figure = Figure(figsize=(12, 4.6), layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize='medium')
    axes = figure.subplots()
    styles = markers(rows)
    for number, row in enumerate(rows):
        shift = 0.7 * ((number + 0.5) / len(rows) - 0.5)
        points = [
            (place + shift, value[0], value[1] or 0)
            for place, value in enumerate(row['class_iou'])
            if value
        ]
        if not points:
            continue
        x, y, spread = zip(*points, strict=True)
        axes.errorbar(
            x,
            y,
            spread,
            ls='',
            ms=6,
            elinewidth=1,
            markeredgecolor='white',
            markeredgewidth=0.5,
            label=row['name'],
            **styles[row['name']],
        )
    for place in range(len(classes)):
        axes.axvspan(
            place - 0.42,
            place + 0.42,
            color='0.965' if place % 2 else '0.985',
            lw=0,
            zorder=0,
        )
        colour = [value / 255 for value in palette[place]]
        axes.plot(
            place,
            -3.5,
            's',
            ms=9,
            color=colour,
            markeredgecolor='0.4',
            clip_on=False,
        )
    names = [name.replace('_', '\n') for name in classes]
    axes.set_xticks(range(len(classes)), names, fontsize='small')
    axes.set(ylabel='IoU, %', ylim=(-6, 100), xlim=(-0.5, len(classes) - 0.5))
    axes.tick_params(length=0)
    axes.grid(axis='y', color='0.9')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right', 'bottom']].set_visible(False)
    figure.legend(
        loc='outside lower center', ncols=5, fontsize='small', frameon=False
    )
    figure.savefig(path, dpi=110)
