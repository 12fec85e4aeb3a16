"""Pictures of windows of a scene: what every system predicts, and where."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmseg_uhr.visualization import colour_labels

from .scenes import Box, Scene

_WRONG = np.array([225, 20, 60], np.float32)
_TINT = 0.72
_COLUMNS = 6


def errors(scene: Scene, name: str, box: Box) -> np.ndarray:
    """Paint the wrong pixels of a window red on its pale grey image.

    Args:
        scene (Scene): With predictions.
        name (str): Of the system.
        box (tuple): ``(y, x, h, w)``.

    Returns:
        np.ndarray: RGB ``uint8`` (h, w, 3); ignored pixels are never wrong.
    """
    part = _part(box)
    labels = scene.labels[part]
    wrong = (scene.maps[name][part] != labels) & (labels != scene.ignored)
    grey = scene.image[part].astype(np.float32).mean(2, keepdims=True)
    picture = np.repeat(150 + 0.4 * grey, 3, 2).clip(0, 255)
    picture[wrong] = _TINT * _WRONG + (1 - _TINT) * picture[wrong]
    return picture.astype(np.uint8)


def write_sheet(
    path: Path,
    title: str,
    scene: Scene,
    box: Box,
    seam: int | None = None,
) -> None:
    """Draw a window: image, labels, and of every system map and errors.

    Args:
        path (Path): Picture to write.
        title (str): First line.
        scene (Scene): With predictions.
        box (tuple): The window, ``(y, x, h, w)``.
        seam (int, optional): Row of the scene to mark at the sides.
    """
    part = _part(box)
    labels = scene.labels[part]
    counted = labels != scene.ignored
    cells = [
        (
            'image',
            scene.image[part],
            'labels',
            colour_labels(labels, scene.palette),
        )
    ]
    for name, found in scene.maps.items():
        right = (found[part] == labels)[counted].mean() if counted.any() else 1
        cells.append(
            (
                name,
                colour_labels(found[part], scene.palette),
                f'{100 * (1 - right):.1f} % wrong',
                errors(scene, name, box),
            )
        )
    rows = -(-len(cells) // _COLUMNS)
    columns = -(-len(cells) // rows)
    h, w = box[2:]
    width = 2.15
    height = width * h / w
    figure = Figure(
        figsize=(columns * width, rows * 2 * (height + 0.19) + 0.8),
        layout='constrained',
    )
    figure.get_layout_engine().set(
        w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize='medium', x=0.005, ha='left')
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for number, (name, top, note, bottom) in enumerate(cells):
        row, column = divmod(number, columns)
        for axes, picture, text in (
            (panels[2 * row, column], top, name),
            (panels[2 * row + 1, column], bottom, note),
        ):
            axes.imshow(picture, interpolation='nearest')
            bold = axes is panels[2 * row, column] or note == 'labels'
            axes.set_title(
                text,
                fontsize=8,
                weight='bold' if bold else 'normal',
                color='black' if bold else '0.35',
                pad=2,
            )
            if seam is not None and number:
                _mark(axes, seam - box[0] - 0.5, w)
    _legend(figure, scene, [labels, *(m[part] for m in scene.maps.values())])
    figure.savefig(path, dpi=110, pil_kwargs=dict(quality=88))


def _part(box: Box) -> tuple[slice, slice]:
    """Return the slices of a box."""
    y, x, h, w = box
    return slice(y, y + h), slice(x, x + w)


def _mark(axes, row: float, width: int) -> None:
    """Point at a row from both sides, and leave its pixels visible."""
    for x, marker in ((0, '>'), (width - 1, '<')):
        axes.plot(
            x,
            row,
            marker,
            ms=6,
            color='black',
            markeredgecolor='white',
            clip_on=False,
        )


def _legend(figure: Figure, scene: Scene, maps: Sequence[np.ndarray]) -> None:
    """Name the colours that are there."""
    there = sorted(set(np.concatenate([np.unique(one) for one in maps])))
    handles = [
        Patch(
            facecolor=[value / 255 for value in scene.palette[one]],
            edgecolor='0.4',
            label=scene.classes[one].replace('_', ' '),
        )
        for one in there
        if one < len(scene.classes)
    ]
    if scene.ignored in there:
        handles.append(
            Patch(facecolor='0.5', edgecolor='0.4', label='not labelled')
        )
    handles.append(Patch(facecolor=_WRONG / 255, label='wrong'))
    figure.legend(
        handles=handles,
        loc='outside lower left',
        # As many as there is room for, long names among them.
        ncols=int(figure.get_figwidth() / 1.3),
        fontsize=8,
        frameon=False,
        handlelength=1,
        columnspacing=1.2,
    )
