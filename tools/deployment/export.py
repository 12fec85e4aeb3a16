"""Export the network of windows, and check the file against PyTorch."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import DictAction

import mmseg_uhr  # noqa: F401  registers the types that configs name
from mmseg_uhr.apis import init_segmentor
from mmseg_uhr.deployment import (
    KEEP,
    OPSETS,
    ExportResult,
    export_onnx,
    export_program,
    quantise_onnx,
)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the model, ours or stock')
    parser.add_argument('checkpoint', help='weights')
    parser.add_argument(
        '--out',
        required=True,
        help='file to write: .onnx, or .pt2 for one that PyTorch compiles '
        'for this kind of CPU (AOTInductor)',
    )
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
        help=f'of ONNX, {OPSETS[0]} to {OPSETS[-1]} (default: {OPSETS[0]})',
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
    int8 = parser.add_argument_group('int8')
    int8.add_argument(
        '--int8',
        action='store_true',
        help='compute convolutions in bytes, which costs some accuracy',
    )
    int8.add_argument(
        '--calibrate',
        nargs='+',
        metavar='SCENE',
        help='files of the training set whose windows tell the ranges',
    )
    int8.add_argument(
        '--windows',
        type=int,
        default=64,
        help='to calibrate on, and at most to check (default: 64)',
    )
    int8.add_argument(
        '--labels', help='label map of --scene: measure the mIoU, too'
    )
    int8.add_argument(
        '--keep',
        type=float,
        default=KEEP,
        help='share of pixels that have to keep their class '
        f'(default: {KEEP})',
    )
    int8.add_argument(
        '--force',
        action='store_true',
        help='write the file even if they do not',
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
        f'{result.path.name}: {result.path.stat().st_size / 2**20:.1f} MiB, '
        f'{result.nodes} nodes; windows of {height} x {width}; may vary: '
        f'{vary}; inputs: {", ".join(result.inputs)}'
    )
    for name, parity in result.parity.items():
        print(f'{name}: {parity}')
    if not checked_real:
        print('give --scene FILE to check it on real windows, too')


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    compiled = Path(args.out).suffix == '.pt2'
    if args.int8 and (compiled or args.fp16 or args.no_normalise):
        raise ValueError(
            '--int8: the float32 network as .onnx, normalising included, is '
            'quantised; leave out --fp16 and --no-normalise'
        )
    if args.int8 and not args.calibrate:
        raise ValueError(
            '--int8: give --calibrate SCENE [...], files of the training set'
        )
    if not args.int8 and (args.calibrate or args.labels):
        raise ValueError('--calibrate and --labels are for --int8')


def export(args: argparse.Namespace) -> None:
    """Export, check and report."""
    check(args)
    model = init_segmentor(
        args.config, args.checkpoint, 'cpu', args.cfg_options
    )
    options = dict(
        size=tuple(args.size) if args.size else None,
        dynamic=args.dynamic,
        half=args.fp16,
        normalise=not args.no_normalise,
        uint8=args.uint8,
        scene=args.scene,
    )
    out = Path(args.out)
    if out.suffix == '.pt2':
        report(export_program(model, out, **options), bool(args.scene))
        return
    if not args.int8:
        result = export_onnx(model, out, opset=args.opset, **options)
        report(result, bool(args.scene))
        return
    with TemporaryDirectory() as folder:
        whole = Path(folder) / 'float32.onnx'
        result = export_onnx(model, whole, opset=args.opset, **options)
        report(result, bool(args.scene))
        found = quantise_onnx(
            whole,
            out,
            args.calibrate,
            args.scene,
            args.labels,
            args.windows,
            args.keep,
            args.force,
        )
    print(f'{out}: {found}')


def main() -> None:
    """Run the tool; bad input ends it with one sentence."""
    args = parse_args()
    try:
        export(args)
    except (ValueError, FileNotFoundError, ImportError) as error:
        sys.exit(f'export.py: {error}')


if __name__ == '__main__':
    main()
