"""Statistics of a data set as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .colours import colour_labels

# With more scenes their names would overlap.
_MAX_NAMES = 24
_IGNORED = '#d9d9d9'
_LINE = '#8a8a8a'


def write_class_chart(
    path: str | Path,
    title: str,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None,
    scenes: Sequence[str],
    pixels: np.ndarray,
    ignored: np.ndarray,
    sampled: np.ndarray | None = None,
) -> None:
    """Draw the shares of classes, sampled against actual, and in each scene.

    Args:
        path (str | Path): The picture to write; its suffix tells the format.
        title (str): First line.
        classes (Sequence[str]): Names of the C classes.
        palette (Sequence[Sequence[int]], optional): RGB per class.
        scenes (Sequence[str]): Names of the S scenes.
        pixels (np.ndarray): Pixels of each class in each scene (S, C).
        ignored (np.ndarray): Ignored pixels of each scene (S,).
        sampled (np.ndarray, optional): Pixels (C,) of each class in windows
            that were drawn.
    """
    # Only here: drawing loads fonts and back ends.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = colour_labels(np.arange(len(classes))[None], palette)[0] / 255
    height = 1.5 + 0.34 * max(len(classes), 7)
    figure = Figure(figsize=(13, height), dpi=100, layout='constrained')
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.012, ha='left', fontsize=13, weight='bold')
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_shares(left, classes, colours, pixels.sum(0), sampled)
    _draw_scenes(right, classes, colours, scenes, pixels, ignored)
    for axes in (left, right):
        axes.spines[['top', 'right']].set_visible(False)
        axes.tick_params(length=0, labelsize=9)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_shares(
    axes,
    classes: Sequence[str],
    colours: np.ndarray,
    actual: np.ndarray,
    sampled: np.ndarray | None,
) -> None:
    """Draw a line per class from its actual share to its sampled one."""
    rows = np.arange(len(classes))
    shares = 100 * actual / max(actual.sum(), 1)
    drawn = None
    values = shares
    if sampled is not None:
        drawn = 100 * sampled / max(sampled.sum(), 1)
        values = np.concatenate([shares, drawn])
    # Rare classes matter most, and shares may span five decades.
    positive = values[values > 0]
    least = positive.min() / 3 if len(positive) else 0.01
    axes.set_xscale('log')
    axes.set_xlim(least, 150)
    low = np.maximum(shares, least)
    if drawn is not None:
        high = np.maximum(drawn, least)
        axes.hlines(rows, low, high, colors=_LINE, linewidth=1.5, zorder=1)
        axes.scatter(
            high,
            rows,
            c=colours,
            s=75,
            edgecolors='#333',
            linewidths=0.8,
            zorder=3,
        )
        axes.scatter([], [], c='#333', s=75, label='sampled windows')
    axes.scatter(
        low,
        rows,
        c=colours if drawn is None else 'white',
        s=42,
        edgecolors='#333',
        linewidths=1.2,
        zorder=2,
        label='all pixels',
    )
    for row in rows:
        text = f'{shares[row]:.3g} %' if shares[row] else 'absent'
        if drawn is not None and shares[row]:
            text += f' → {drawn[row]:.3g} %'
        axes.annotate(
            text,
            (1.01, row),
            xycoords=('axes fraction', 'data'),
            va='center',
            fontsize=8.5,
            color='#555',
        )
    axes.set_yticks(rows, classes)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.xaxis.set_major_formatter('{x:g} %')
    axes.minorticks_off()
    axes.grid(axis='x', color='#ececec', zorder=0)
    axes.set_axisbelow(True)
    axes.set_title('share of labelled pixels', loc='left', fontsize=10)
    if drawn is not None:
        axes.legend(
            loc='lower right',
            bbox_to_anchor=(1, 1),
            ncols=2,
            frameon=False,
            fontsize=9,
            handletextpad=0.2,
            borderpad=0,
        )


def _draw_scenes(
    axes,
    classes: Sequence[str],
    colours: np.ndarray,
    scenes: Sequence[str],
    pixels: np.ndarray,
    ignored: np.ndarray,
) -> None:
    """Draw a column per scene, stacked of its classes."""
    totals = np.maximum(pixels.sum(1) + ignored, 1)
    places = np.arange(len(scenes))
    named = len(scenes) <= _MAX_NAMES
    width = 0.82 if named else 1.0
    below = np.zeros(len(scenes))
    # The largest class at the bottom, where columns compare best.
    for i in np.argsort(-pixels.sum(0), kind='stable'):
        share = 100 * pixels[:, i] / totals
        axes.bar(places, share, width, below, color=colours[i], linewidth=0)
        below += share
    share = 100 * ignored / totals
    axes.bar(
        places,
        share,
        width,
        below,
        color=_IGNORED,
        hatch='///',
        edgecolor='white',
        linewidth=0,
    )
    axes.set_ylim(0, 100)
    axes.set_xlim(-0.6, len(scenes) - 0.4)
    axes.yaxis.set_major_formatter('{x:g} %')
    title = f'classes by scene ({len(scenes)})'
    if ignored.any():
        title += ', ignored pixels hatched'
    axes.set_title(title, loc='left', fontsize=10)
    if named:
        long = max(map(len, scenes)) > 60 / len(scenes)
        axes.set_xticks(
            places,
            scenes,
            rotation=40 if long else 0,
            ha='right' if long else 'center',
            rotation_mode='anchor',
        )
    else:
        axes.set_xticks([])
