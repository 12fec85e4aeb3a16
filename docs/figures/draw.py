"""Draw the dataflow of the methods as SVG: ``python docs/figures/draw.py``.

A figure is a grid of boxes and arrows between them, see ``figures.py``. Boxes
are filled and arrows are mid-grey, so that figures suit light and dark pages.
"""

from html import escape
from pathlib import Path

from figures import FIGURES

OUT = Path(__file__).resolve().parents[1] / 'en' / 'assets' / 'figures'
WIDTH, HEIGHT = 214, 46  # of a box
PITCH_X, PITCH_Y = 262, 84  # from box to box
MARGIN, LEGEND = 18, 40
INK, GREY = '#1d2733', '#7b8794'
KINDS = {
    'input': ('#e4e8ee', 'pixels, logits'),
    'fine': ('#9edbd0', 'full resolution'),
    'coarse': ('#b3c9f7', 'low resolution, context'),
    'method': ('#f7d38a', 'where they meet'),
    'train': ('#eef0f3', 'training only'),
}
PORTS = {'t': (0, -1), 'b': (0, 1), 'l': (-1, 0), 'r': (1, 0)}


def centre(box: tuple) -> tuple[float, float]:
    """Return the centre of a box in pixels."""
    x = MARGIN + WIDTH / 2 + box[0] * PITCH_X
    return x, MARGIN + HEIGHT / 2 + box[1] * PITCH_Y


def draw_box(box: tuple) -> str:
    """Draw a box: ``(column, row, kind, title, note)``."""
    x, y = centre(box)
    _, _, kind, title, note = box
    up = 4 if note else -5
    dashes = ' stroke-dasharray="4 3"' if kind == 'train' else ''
    return (
        f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="7" fill="{KINDS[kind][0]}" stroke="{GREY}"'
        f'{dashes}/>'
        f'<text x="{x:g}" y="{y - up:g}" font-weight="600">'
        f'{escape(title)}</text>'
        f'<text x="{x:g}" y="{y + 13:g}" font-size="11.5">{escape(note)}'
        '</text>'
    )


def port(box: tuple, side: str) -> tuple[float, float]:
    """Return where an arrow meets a side of a box."""
    x, y = centre(box)
    dx, dy = PORTS[side]
    return x + dx * WIDTH / 2, y + dy * HEIGHT / 2


def lanes(boxes: dict, arrows: list) -> dict[tuple, float]:
    """Give each arrow that goes round boxes a lane, short ones inside.

    Returns:
        dict[tuple, float]: Arrow -> x of its lane, for ``'ll'`` and ``'rr'``.
    """
    found = {}
    for ports, sign in (('ll', -1), ('rr', 1)):
        around = [arrow for arrow in arrows if arrow[2:3] == (ports,)]
        around.sort(key=lambda a: abs(boxes[a[1]][1] - boxes[a[0]][1]))
        for i, arrow in enumerate(around):
            sides = [
                sign * port(boxes[name], ports[0])[0] for name in arrow[:2]
            ]
            found[arrow] = sign * (max(sides) + 14 + 12 * i)
    return found


def curve(start: tuple, end: tuple, ports: str) -> tuple[str, tuple]:
    """Return the path from port to port, and its middle."""
    points = []
    for (x, y), (other_x, other_y), side in (
        (start, end, ports[0]),
        (end, start, ports[1]),
    ):
        dx, dy = PORTS[side]
        reach = max(20, 0.55 * abs(other_x - x if dx else other_y - y))
        points.append((x + dx * reach, y + dy * reach))
    four = (start, *points, end)
    path = 'M{:g} {:g}C{:g} {:g} {:g} {:g} {:g} {:g}'.format(*sum(four, ()))
    weights = (1, 3, 3, 1)
    middle = tuple(
        sum(w * p[i] for w, p in zip(weights, four)) / 8 for i in (0, 1)
    )
    return path, middle


def detour(start: tuple, end: tuple, lane: float) -> tuple[str, tuple]:
    """Return the path along a lane, and its middle."""
    (x0, y0), (x1, y1) = start, end
    turn = 8 if lane > x0 else -8
    down = 8 if y1 > y0 else -8
    path = (
        f'M{x0:g} {y0:g}H{lane - turn:g}Q{lane:g} {y0:g} {lane:g} '
        f'{y0 + down:g}V{y1 - down:g}Q{lane:g} {y1:g} {lane - turn:g} {y1:g}'
        f'H{x1:g}'
    )
    return path, (lane, (y0 + y1) / 2)


def draw_arrow(
    boxes: dict, arrow: tuple, lane: float | None
) -> tuple[str, str]:
    """Draw ``(from, to, ports, label)``; returns the line and its label."""
    source, target, ports, label = (*arrow, *('bt', '')[len(arrow) - 2 :])
    start, end = port(boxes[source], ports[0]), port(boxes[target], ports[1])
    if lane is None:
        path, (x, y) = curve(start, end, ports)
    else:
        path, (x, y) = detour(start, end, lane)
    training = 'train' in (boxes[source][2], boxes[target][2])
    dashes = ' stroke-dasharray="5 4"' if training else ''
    line = f'<path d="{path}"{dashes} marker-end="url(#tip)"/>'
    if not label:
        return line, ''
    half = 3.3 * len(label) + 6
    return line, (
        f'<rect x="{x - half:g}" y="{y - 9:g}" width="{2 * half:g}" '
        f'height="18" rx="9" fill="#ffffff" stroke="{GREY}" '
        'stroke-width="0.7"/>'
        f'<text x="{x:g}" y="{y + 4:g}" font-size="11.5">{escape(label)}'
        '</text>'
    )


def draw_legend(meanings: dict[str, str], y: float) -> tuple[str, float]:
    """Draw what the colours mean; returns the legend and its right end."""
    parts, x = [], MARGIN
    for kind, meaning in meanings.items():
        width = 6.6 * len(meaning) + 22
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="20" rx="5" '
            f'fill="{KINDS[kind][0]}" stroke="{GREY}" stroke-width="0.7"/>'
            f'<text x="{x + width / 2:g}" y="{y + 14:g}" font-size="11.5">'
            f'{escape(meaning)}</text>'
        )
        x += width + 8
    return ''.join(parts), x


def draw(
    title: str, boxes: dict, arrows: list, meanings: dict | None = None
) -> str:
    """Draw a figure.

    Args:
        title (str): For readers who do not see it.
        boxes (dict[str, tuple]): Name -> ``(column, row, kind, title, note)``.
        arrows (list[tuple]): ``(from, to)``, and if they are not plain
            ``ports`` (sides of both boxes) and ``label``.
        meanings (dict[str, str], optional): Kind -> text of the legend.

    Returns:
        str: The SVG.
    """
    columns = 1 + max(box[0] for box in boxes.values())
    rows = 1 + max(box[1] for box in boxes.values())
    bottom = 2 * MARGIN + (rows - 1) * PITCH_Y + HEIGHT
    width = 2 * MARGIN + (columns - 1) * PITCH_X + WIDTH
    used = {box[2] for box in boxes.values()}
    ways = lanes(boxes, arrows)
    drawn = [draw_arrow(boxes, a, ways.get(a)) for a in arrows]
    meanings = meanings or {k: KINDS[k][1] for k in KINDS if k in used}
    legend, end = draw_legend(meanings, bottom - 4)
    left = min([0, *(x - MARGIN for x in ways.values())])
    right = max([width, end, *(x + MARGIN for x in ways.values())])
    width, height = right - left, bottom + LEGEND - MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" '
        f'height="{height:g}" viewBox="{left:g} 0 {width:g} {height:g}" '
        'role="img">\n'
        f'<title>{escape(title)}</title>\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
        f'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 '
        f'8z" fill="{GREY}"/></marker></defs>\n<g fill="none" stroke="{GREY}" '
        'stroke-width="1.6">\n'
        + '\n'.join(line for line, _ in drawn)
        + '\n</g>\n<g font-family="Roboto, Helvetica, Arial, sans-serif" '
        f'font-size="13" text-anchor="middle" fill="{INK}">\n'
        + '\n'.join(map(draw_box, boxes.values()))
        + '\n'
        + '\n'.join(label for _, label in drawn if label)
        + '\n'
        + legend
        + '\n</g>\n</svg>\n'
    )


def main() -> None:
    """Write all figures."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name, figure in FIGURES.items():
        (OUT / f'{name}.svg').write_text(draw(*figure))


if __name__ == '__main__':
    main()
