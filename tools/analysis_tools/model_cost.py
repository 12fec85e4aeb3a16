"""Print what models cost: operations, parameters, memory.

Runs on fake tensors: no GPU, no data, no weights, about a second a size.
"""

import argparse

from mmengine import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

import mmseg_uhr  # noqa: F401
from mmseg_uhr.memory import model_cost

_HEADER = (
    f'{"config":<48} {"size":>11} {"batch":>5} {"GMACs":>8} {"params/M":>8} '
    f'{"train-only/M":>12} {"activations/MiB":>15}'
)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        action='append',
        metavar=('H', 'W'),
        help='input size in pixels; repeat for several (default 2448 2448)',
    )
    parser.add_argument('--batch-size', type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Print one line per config and size."""
    args = parse_args()
    register_all_modules()
    print(_HEADER)
    for path in args.configs:
        config = Config.fromfile(path)
        model = MODELS.build(config.model)
        preprocessor = config.model.get('data_preprocessor') or {}
        for size in args.size or [(2448, 2448)]:
            cost = model_cost(
                model,
                tuple(size),
                args.batch_size,
                channels=len(preprocessor.get('mean', (0, 0, 0))),
            )
            extent = f'{cost.size[0]}x{cost.size[1]}'
            name = path.rsplit('/', 1)[-1].removesuffix('.py')
            print(
                f'{name:<48} {extent:>11} {cost.batch_size:>5} '
                f'{cost.gmacs:>8.1f} {cost.mparams:>8.2f} '
                f'{cost.training_mparams:>12.3f} {cost.peak_mib:>15.0f}'
            )


if __name__ == '__main__':
    main()
