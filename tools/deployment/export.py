"""Export the network of windows as ONNX, and check it with onnxruntime."""

import argparse
import sys

from mmengine.config import DictAction

import mmseg_uhr  # noqa: F401  registers the types that configs name
from mmseg_uhr.apis import init_segmentor
from mmseg_uhr.deployment import OPSETS, ExportResult, export_onnx


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the model, ours or stock')
    parser.add_argument('checkpoint', help='weights')
    parser.add_argument('--out', required=True, help='.onnx file to write')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of windows, pixels (default: test_cfg.crop_size)',
    )
    parser.add_argument(
        '--dynamic',
        action='store_true',
        help='let batch, height and width vary, as far as the network allows',
    )
    parser.add_argument(
        '--opset',
        type=int,
        default=OPSETS[0],
        help=f'{OPSETS[0]} to {OPSETS[-1]} (default: {OPSETS[0]})',
    )
    parser.add_argument(
        '--fp16', action='store_true', help='compute in float16'
    )
    parser.add_argument(
        '--no-normalise',
        action='store_true',
        help='leave normalising, and the order of bands, to the caller',
    )
    parser.add_argument(
        '--uint8', action='store_true', help='take bytes instead of float32'
    )
    parser.add_argument(
        '--scene', help='file whose windows are checked besides random ones'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='overrides of the config as key=value',
    )
    return parser.parse_args()


def report(result: ExportResult, checked_real: bool) -> None:
    """Tell what was written, and how it compares."""
    height, width = result.size
    for axes, reason in result.refused.items():
        print(f'may not vary together: {axes} ({reason})')
    vary = ', '.join(result.axes) or 'nothing'
    if result.multiple > 1:
        vary += f' (by {result.multiple})'
    print(
        f'{result.path}: {result.path.stat().st_size / 2**20:.1f} MiB, '
        f'opset {result.opset}, {result.nodes} nodes; windows of '
        f'{height} x {width}; may vary: {vary}; inputs: '
        f'{", ".join(result.inputs)}'
    )
    for name, parity in result.parity.items():
        print(f'{name}: {parity}')
    if not checked_real:
        print('give --scene FILE to check it on real windows, too')


def main() -> None:
    """Run the tool; bad input ends it with one sentence."""
    args = parse_args()
    try:
        model = init_segmentor(
            args.config, args.checkpoint, 'cpu', args.cfg_options
        )
        result = export_onnx(
            model,
            args.out,
            tuple(args.size) if args.size else None,
            args.opset,
            args.dynamic,
            args.fp16,
            not args.no_normalise,
            args.uint8,
            args.scene,
        )
    except (ValueError, FileNotFoundError, ImportError) as error:
        sys.exit(f'export.py: {error}')
    report(result, args.scene is not None)


if __name__ == '__main__':
    main()
