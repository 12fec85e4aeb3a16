"""A training window on one sheet: what is seen, its labels, and a legend."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..rasters.array import resize_array
from .colours import IGNORE_COLOUR, colour_labels, fit_size

_MARGIN, _GAP = 20, 14
_TITLE, _TEXT = 17, 13
_LINE = 22
_LEGEND = 230
_INK, _PALE, _FAINT = (30, 30, 30), (120, 120, 120), (232, 232, 232)

Box = tuple[float, float, float, float]


def window_sheet(
    title: str,
    subtitle: str,
    views: Mapping[str, np.ndarray],
    labels: np.ndarray | None,
    classes: Sequence[str] | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    boxes: Mapping[str, Box] | None = None,
    panel: int = 420,
) -> np.ndarray:
    """Draw the views of a window, its labels, and the shares of its classes.

    Args:
        title (str): First line.
        subtitle (str): Second line, paler.
        views (Mapping[str, np.ndarray]): RGB ``uint8`` pictures (h, w, 3) by
            caption; the first shows what the labels show.
        labels (np.ndarray, optional): Class ids (h, w).
        classes (Sequence[str], optional): Names of the classes.
        palette (Sequence[Sequence[int]], optional): RGB per class.
        boxes (Mapping[str, tuple], optional): Where the window lies in a
            view, ``(y, x, h, w)`` as fractions.
        panel (int): Longest side of a picture on the sheet, pixels.

    Returns:
        np.ndarray: RGB ``uint8`` (H, W, 3).
    """
    first = next(iter(views))
    panels = {first: _fit(views[first], panel)}
    if labels is not None:
        size = fit_size(labels.shape, panel)
        shown = resize_array(labels[..., None], size, 'nearest')[..., 0]
        panels['labels'] = _fit(colour_labels(shown, palette), panel)
    for name, view in views.items():
        if name != first:
            panels[name] = _fit(view, panel)
            _draw_box(panels[name], (boxes or {}).get(name))
    rows = [] if labels is None else _shares(labels, classes, palette)
    height = max(
        [picture.height for picture in panels.values()] + [len(rows) * _LINE]
    )
    width = sum(picture.width + _GAP for picture in panels.values())
    width += _LEGEND if rows else -_GAP
    top = _MARGIN + 2 * _LINE + _GAP
    size = (
        max(width, 360) + 2 * _MARGIN,
        top + _LINE + height + _MARGIN,
    )
    sheet = Image.new('RGB', size, 'white')
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, _INK, _font(_TITLE, bold=True))
    draw.text((_MARGIN, _MARGIN + _LINE + 3), subtitle, _PALE, _font(_TEXT))
    x = _MARGIN
    for name, picture in panels.items():
        draw.text((x, top), name, _INK, _font(_TEXT))
        sheet.paste(picture, (x, top + _LINE))
        x += picture.width + _GAP
    _draw_legend(draw, (x + 4, top + _LINE), rows)
    return np.asarray(sheet)


def _draw_box(picture: Image.Image, box: Box | None) -> None:
    """Outline the window in a view, white on black."""
    if box is None:
        return
    y, x, h, w = box
    corners = [
        round(x * picture.width),
        round(y * picture.height),
        round((x + w) * picture.width) - 1,
        round((y + h) * picture.height) - 1,
    ]
    draw = ImageDraw.Draw(picture)
    outer = [c + d for c, d in zip(corners, (-1, -1, 1, 1), strict=True)]
    draw.rectangle(outer, outline='black', width=4)
    draw.rectangle(corners, outline='white', width=2)


def _shares(
    labels: np.ndarray,
    classes: Sequence[str] | None,
    palette: Sequence[Sequence[int]] | None,
) -> list[tuple[str, tuple[int, int, int], float]]:
    """Return name, colour and share of what is there, largest first."""
    # By rows: counting makes 64-bit numbers of them.
    counts = sum(np.bincount(row, minlength=256) for row in labels)
    found = np.flatnonzero(counts)
    known = len(classes) if classes else 0
    colours = colour_labels(found[None], palette)[0]
    rows = []
    for i, colour in zip(found, colours, strict=True):
        if i < known:
            name = classes[i]
        else:
            grey = tuple(colour) == IGNORE_COLOUR
            name = f'ignored ({i})' if grey or known else f'class {i}'
        rows.append((name, tuple(map(int, colour)), counts[i] / labels.size))
    return sorted(rows, key=lambda row: -row[2])


def _draw_legend(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], rows: Sequence[tuple]
) -> None:
    """Write swatches, names and shares with bars below each other."""
    x, y = corner
    right = x + _LEGEND - 8
    for name, colour, share in rows:
        draw.rectangle([x, y + 3, x + 13, y + 16], colour, (90, 90, 90))
        number = f'{100 * share:.1f} %' if share >= 0.0005 else '< 0.1 %'
        font = _font(_TEXT)
        edge = right - draw.textlength(number, font)
        name = _shorten(draw, name, edge - x - 30)
        draw.text((x + 21, y + 1), name, _INK, font)
        draw.text((edge, y + 1), number, _PALE, font)
        draw.rectangle([x + 21, y + 18, right, y + 19], _FAINT)
        end = x + 21 + share * (right - x - 21)
        draw.rectangle([x + 21, y + 18, end, y + 19], _PALE)
        y += _LINE


def _shorten(draw: ImageDraw.ImageDraw, name: str, width: float) -> str:
    """Cut a name that is wider than there is room, in pixels."""
    font = _font(_TEXT)
    if draw.textlength(name, font) <= width:
        return name
    while name and draw.textlength(f'{name}…', font) > width:
        name = name[:-1]
    return f'{name}…'


def _fit(pixels: np.ndarray, side: int) -> Image.Image:
    """Make a picture whose longest side is ``side`` pixels."""
    shape = pixels.shape[:2]
    size = fit_size(shape, side)
    method = Image.Resampling.BOX
    if max(shape) < side:
        # Tiny windows would be stamps.
        size = tuple(max(round(n * side / max(shape)), 1) for n in shape)
        method = Image.Resampling.NEAREST
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return picture.resize(size[::-1], method)


@lru_cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the font that comes with Matplotlib, so it is there everywhere."""
    from matplotlib.font_manager import FontProperties, findfont

    weight = 'bold' if bold else 'normal'
    path = findfont(FontProperties(family='DejaVu Sans', weight=weight))
    return ImageFont.truetype(path, size)
