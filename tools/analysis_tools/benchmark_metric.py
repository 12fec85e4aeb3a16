"""Cost of scoring one image, and exactness of the IoU against stock.

All metrics score the same square label map of 7 classes in blocks of 50
pixels. Class 0 covers 80 % of it. The prediction is either shifted by 3
pixels, or has one pixel in ten wrong, which makes as many objects as there can
be. Stock gets ``int64`` maps, as its pipeline and models deliver them, and
runs with one thread and with two: its errors depend on that.
"""

import argparse
import ctypes
from collections.abc import Callable

import cv2
import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric

from mmseg_uhr.evaluation.metrics import (
    BoundaryIoUMetric,
    ObjectSizeIoUMetric,
    TrimapIoUMetric,
    UHRIoUMetric,
)
from mmseg_uhr.memory import Meter

_CLASSES = tuple('0123456')
METRICS: dict[str, Callable[[], BaseMetric]] = {
    'stock': IoUMetric,
    'iou': UHRIoUMetric,
    'boundary-16px': lambda: BoundaryIoUMetric(widths=(2, 4, 8, 16)),
    'boundary-2%': BoundaryIoUMetric,
    'trimap': TrimapIoUMetric,
    'objects': ObjectSizeIoUMetric,
}
"""dict[str, Callable]: What can be measured."""


def make_maps(side: int, noise: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a prediction and a label map, ``uint8`` (side, side)."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(1, len(_CLASSES), 2 * [side // 50 + 1], np.uint8)
    blocks[rng.random(blocks.shape) < 0.8] = 0
    label = blocks.repeat(50, 0)[:side].repeat(50, 1)[:, :side]
    if noise:
        pred = label.copy()
        for row in pred:  # Row by row, to leave the memory meter alone.
            row[rng.random(side) < 0.1] += 1
        pred %= len(_CLASSES)
    else:
        pred = np.roll(label, 3, (0, 1))
    return torch.from_numpy(pred), torch.from_numpy(label.copy())


def exact_iou(pred: torch.Tensor, label: torch.Tensor) -> np.ndarray:
    """Count the IoU of every class one by one, in percent."""
    ious = []
    for i in range(len(_CLASSES)):
        both = int(((pred == i) & (label == i)).sum())
        ious.append(100 * both / int(((pred == i) | (label == i)).sum()))
    return np.array(ious)


def measure(name: str, side: int, noise: bool, threads: int) -> str:
    """Score one image and describe what that took.

    Args:
        name (str): Key of ``METRICS``.
        side (int): Height and width of the image, pixels.
        noise (bool): Whether single pixels are wrong.
        threads (int): Of PyTorch and OpenCV.

    Returns:
        str: A line of the table.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    pred, label = make_maps(side, noise)
    exact = exact_iou(pred, label)
    metric = METRICS[name]()
    if name == 'stock':
        pred, label = pred.long(), label.long()
    metric.dataset_meta = dict(classes=_CLASSES)
    sample = dict(
        pred_sem_seg=dict(data=pred[None]), gt_sem_seg=dict(data=label[None])
    )
    # Else the metric would reuse, unseen, what making the maps has freed.
    getattr(ctypes.CDLL(None), 'malloc_trim', lambda _: None)(0)
    with Meter() as meter:
        metric.process(None, [sample])
    line = (
        f'{name:13} {"noise" if noise else "shift":5} {side:6} {threads:8} '
        f'{meter.cpu_seconds:7.2f} {meter.host_mib:10.0f}'
    )
    if not isinstance(metric, IoUMetric):
        return line
    reported = {}
    totals = metric.total_area_to_metrics

    def keep(*areas: object) -> dict:
        reported.update(totals(*areas))
        return dict(reported)

    metric.total_area_to_metrics = keep
    metric.evaluate(1)
    error = np.abs(100 * reported['IoU'] - exact).max()
    return (
        f'{line} {100 * reported["IoU"][0]:9.2f} {exact[0]:9.2f} {error:10.2f}'
    )


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--sides',
        nargs='+',
        type=int,
        default=[5000, 8000],
        help='heights and widths of the image in pixels',
    )
    parser.add_argument(
        '--metrics',
        nargs='+',
        choices=list(METRICS),
        default=list(METRICS),
        help='what to measure; default: all',
    )
    args = parser.parse_args()
    print(
        f'{"metric":13} {"pred":5} {"side":>6} {"threads":>8} {"CPU/s":>7} '
        f'{"extra/MiB":>10} {"IoU 0/%":>9} {"exact/%":>9} {"max error":>10}'
    )
    # The tables of classes would hide this one.
    MMLogger.get_instance('benchmark', log_level='ERROR')
    for side in args.sides:
        for name in args.metrics:
            # Only stock's scores depend on threads, only sizes on noise.
            of_iou = name in ('stock', 'iou')
            for noise in (True,) if of_iou else (False, True):
                for threads in (1, 2) if name == 'stock' else (1,):
                    print(measure(name, side, noise, threads), flush=True)


if __name__ == '__main__':
    main()
