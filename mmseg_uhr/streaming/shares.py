"""Who of several processes segments what."""

from collections.abc import Sequence
from typing import NamedTuple

from .parts import PART_ROWS


class Share(NamedTuple):
    """Rows of one scene that one process segments.

    Args:
        scene (int): Index of the scene.
        start (int): First row.
        stop (int): Row after the last one.
    """

    scene: int
    start: int
    stop: int


def cut_shares(
    missing: Sequence[Sequence[tuple[int, int]]],
    widths: Sequence[int],
    processes: int,
    part_rows: int = PART_ROWS,
) -> list[list[Share]]:
    """Cut what is missing of many scenes into as many shares as processes.

    The parts of all scenes, put in a row, are cut where the pixels before
    make the next process's turn: each process gets neighbours, and no more
    than one part above the mean.

    Args:
        missing (Sequence[Sequence[tuple[int]]]): ``(start, stop)`` of the
            missing rows of each scene, each from the begin of a part.
        widths (Sequence[int]): Of the scenes, in pixels.
        processes (int): How many there are.
        part_rows (int): Rows of a part, which is never cut.

    Returns:
        list[list[Share]]: For each process, from the top of the first scene;
        empty lists if there are fewer parts than processes.
    """
    parts = [
        Share(scene, start, min(start + part_rows, stop))
        for scene, runs in enumerate(missing)
        for begin, stop in runs
        for start in range(begin, stop, part_rows)
    ]
    pixels = [(part.stop - part.start) * widths[part.scene] for part in parts]
    shares: list[list[Share]] = [[] for _ in range(processes)]
    total, before = sum(pixels), 0
    for part, size in zip(parts, pixels, strict=True):
        # By the part's middle, in whole numbers.
        share = shares[(2 * before + size) * processes // (2 * total)]
        before += size
        last = share[-1] if share else None
        if last and (last.scene, last.stop) == (part.scene, part.start):
            share[-1] = last._replace(stop=part.stop)
        else:
            share.append(part)
    return shares
