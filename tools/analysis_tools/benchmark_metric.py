"""Cost and exactness of scoring one image: our IoU metric against stock.

Both score the same square label map of 7 classes. Class 0 covers 80 % of it,
and one pixel in ten is predicted wrongly. Stock gets ``int64`` maps, as its
pipeline and models deliver them, and runs with one thread and with two: its
errors depend on that.
"""

import argparse

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric

from mmseg_uhr.evaluation.metrics import UHRIoUMetric
from mmseg_uhr.memory import Meter

_CLASSES = tuple('0123456')


def make_maps(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a prediction and a label map, ``uint8`` (side, side)."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(1, len(_CLASSES), 2 * [side // 50 + 1], np.uint8)
    blocks[rng.random(blocks.shape) < 0.8] = 0
    label = blocks.repeat(50, 0)[:side].repeat(50, 1)[:, :side]
    pred = label.copy()
    for row in pred:  # Row by row, to leave the memory meter alone.
        row[rng.random(side) < 0.1] += 1
    pred %= len(_CLASSES)
    return torch.from_numpy(pred), torch.from_numpy(label.copy())


def exact_iou(pred: torch.Tensor, label: torch.Tensor) -> np.ndarray:
    """Count the IoU of every class one by one, in percent."""
    ious = []
    for i in range(len(_CLASSES)):
        both = int(((pred == i) & (label == i)).sum())
        ious.append(100 * both / int(((pred == i) | (label == i)).sum()))
    return np.array(ious)


def measure(name: str, side: int, threads: int) -> str:
    """Score one image and describe what that took.

    Args:
        name (str): ``'stock'`` or ``'ours'``.
        side (int): Height and width of the image, pixels.
        threads (int): Of PyTorch.

    Returns:
        str: A line of the table.
    """
    torch.set_num_threads(threads)
    pred, label = make_maps(side)
    exact = exact_iou(pred, label)
    metric = IoUMetric() if name == 'stock' else UHRIoUMetric()
    if name == 'stock':
        pred, label = pred.long(), label.long()
    metric.dataset_meta = dict(classes=_CLASSES)
    sample = dict(
        pred_sem_seg=dict(data=pred[None]), gt_sem_seg=dict(data=label[None])
    )
    with Meter() as meter:
        metric.process(None, [sample])
    reported = {}
    totals = metric.total_area_to_metrics

    def keep(*areas: object) -> dict:
        reported.update(totals(*areas))
        return dict(reported)

    metric.total_area_to_metrics = keep
    metric.evaluate(1)
    error = np.abs(100 * reported['IoU'] - exact).max()
    return (
        f'{name:6} {side:6} {threads:8} {meter.cpu_seconds:7.2f} '
        f'{meter.host_mib:10.0f} {100 * reported["IoU"][0]:9.2f} '
        f'{exact[0]:9.2f} {error:10.2f}'
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
    args = parser.parse_args()
    print(
        f'{"metric":6} {"side":>6} {"threads":>8} {"CPU/s":>7} '
        f'{"extra/MiB":>10} {"IoU 0/%":>9} {"exact/%":>9} {"max error":>10}'
    )
    # The tables of classes would hide this one.
    MMLogger.get_instance('benchmark', log_level='ERROR')
    for side in args.sides:
        for name, threads in (('stock', 1), ('stock', 2), ('ours', 1)):
            print(measure(name, side, threads), flush=True)


if __name__ == '__main__':
    main()
