"""The results of all runs, gathered into rows."""

import statistics
from collections.abc import Sequence
from typing import Any

from .runs import Run
from .training import read_results

#: Of scores: name in results, heading.
SCORES: tuple[tuple[str, str], ...] = (
    ('mIoU', 'mIoU'),
    ('aAcc', 'aAcc'),
    ('mIoU_boundary_2px', 'boundary IoU, 2 px'),
    ('mIoU_trimap_2px', 'mIoU within 2 px'),
    ('mIoU_objects_1-31px', 'objects < 32 px'),
    ('mIoU_objects_32-1023px', 'objects 32–1023 px'),
    ('mIoU_objects_1024px_up', 'larger objects'),
)
_TRAINING = (
    'iterations',
    'seconds',
    'seconds_per_iteration',
    'process_mib',
)


def make_row(
    runs: Sequence[Run], validations: Sequence[Run]
) -> dict[str, Any] | None:
    """Make a row of a system with one size of windows.

    Args:
        runs (Sequence[Run]): Of its seeds, on the test scenes.
        validations (Sequence[Run]): The same on the validation scenes;
            without any, the scores at the end of the training count.

    Returns:
        dict: ``name``, ``config``, ``window``, ``seeds`` of finished runs;
        ``scores``, ``class_iou``, ``training`` and ``validation`` as
        ``(mean, spread)``; ``cost`` and ``stitching`` to be filled in.
        ``None`` if no run is finished.
    """
    pairs = [(run, read_results(run)) for run in runs]
    done = [(run, found) for run, found in pairs if found is not None]
    if not done:
        return None
    results = [found for _, found in done]
    trained = [found['trained'] for found in results]
    if validations:
        read = [read_results(run) for run in validations]
        scores = [one['scores'] for one in read if one is not None]
    else:
        scores = [one['validation'] for one in trained]
    first = done[0][0]
    return dict(
        name=first.name,
        config=first.config,
        window=first.window,
        seeds=[run.seed for run, _ in done],
        scores={
            name: mean_spread([one['scores'].get(name) for one in results])
            for name, _ in SCORES
        },
        class_iou=[
            mean_spread(values)
            for values in zip(
                *(one['class_iou'] for one in results), strict=True
            )
        ],
        training={
            name: mean_spread([one.get(name) for one in trained])
            for name in _TRAINING
        },
        validation=mean_spread([one.get('mIoU') for one in scores]),
        chosen=False,
        cost={},
        stitching={},
    )


def choose(rows: Sequence[dict[str, Any]]) -> None:
    """Mark of each system the row that is best on the validation scenes.

    Args:
        rows (Sequence[dict]): Of all systems and windows, changed in place.
    """
    for name in dict.fromkeys(row['name'] for row in rows):
        own = [row for row in rows if row['name'] == name]
        best = max(own, key=lambda row: (row['validation'] or (-1,))[0])
        best['chosen'] = True


def mean_spread(
    values: Sequence[float | None],
) -> tuple[float, float | None] | None:
    """Return the mean and the standard deviation of a sample.

    Args:
        values (Sequence[float]): Of the seeds.

    Returns:
        tuple: The spread is ``None`` for one value; ``None`` without any.
    """
    # A NaN is no score.
    known = [v for v in values if v is not None and v == v]
    if not known:
        return None
    spread = statistics.stdev(known) if len(known) > 1 else None
    return statistics.mean(known), spread
