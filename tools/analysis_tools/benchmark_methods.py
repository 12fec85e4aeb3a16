"""Compare the packaged methods with their plainest possible builds.

Prints, for each method and window size, the multiply-accumulates, the peak of
live activations (both on fake tensors) and the CPU time (best of some rounds,
taken in turns in this process), and the ratios of packaged to plain.
"""

import argparse
import time
from importlib import import_module
from pathlib import Path

import torch
from mmengine import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from torch import nn

import mmseg_uhr  # noqa: F401
from mmseg_uhr.memory import model_cost

ROOT = Path(__file__).parents[2]
CONFIGS = {
    'isdnet': 'isdnet_r18_80k_deepglobe-1224x1224.py',
    'sghrq': 'sghrq_r18_80k_deepglobe-1224x1224.py',
    'hlrc': 'hlrc_swin-t_80k_deepglobe-768x768.py',
}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'methods', nargs='*', choices=list(CONFIGS), default=list(CONFIGS)
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        default=(1504, 1504),
        metavar=('H', 'W'),
        help='window in pixels',
    )
    parser.add_argument('--rounds', type=int, default=3)
    return parser.parse_args()


def seconds(model: nn.Module, size: tuple[int, int]) -> float:
    """Return the CPU seconds of one prediction."""
    x = torch.randn(1, 3, *size)
    shape = dict(img_shape=size, ori_shape=size, pad_shape=size)
    begin = time.process_time()
    with torch.no_grad():
        model.encode_decode(x, [shape])
    return time.process_time() - begin


def main() -> None:
    """Print one table."""
    args = parse_args()
    register_all_modules()
    size = tuple(args.size)
    print(f'{size[0]} x {size[1]}, {torch.get_num_threads()} threads')
    print(f'{"":<8} {"":<9} {"GMACs":>8} {"peak/MiB":>9} {"CPU s":>7}')
    for method in args.methods:
        config = Config.fromfile(ROOT / 'configs' / method / CONFIGS[method])
        plain = import_module(f'naive_builds.{method}').build_naive(7).eval()
        ours = MODELS.build(config.model).eval()
        models = {'plain': plain, 'packaged': ours}
        costs = {k: model_cost(model, size) for k, model in models.items()}
        times = {name: [] for name in models}
        for _ in range(args.rounds):
            for name, model in models.items():
                times[name].append(seconds(model, size))
        rows = {
            name: (costs[name].gmacs, costs[name].peak_mib, min(times[name]))
            for name in models
        }
        for name, (gmacs, peak, spent) in rows.items():
            print(
                f'{method:<8} {name:<9} {gmacs:>8.1f} {peak:>9.0f} '
                f'{spent:>7.2f}'
            )
        ratios = [b / a for a, b in zip(rows['plain'], rows['packaged'])]
        print(
            f'{method:<8} {"ratio":<9} {ratios[0]:>8.2f} {ratios[1]:>9.2f} '
            f'{ratios[2]:>7.2f}'
        )


if __name__ == '__main__':
    main()
