"""Segment scenes of any size into georeferenced, paletted maps.

With a config and a checkpoint, or with an exported network, NETWORK.onnx, for
which neither PyTorch nor MMSegmentation is needed. Several scenes are one
command, and so are several processes, started by tools/dist_segment.sh. A run
that ends early, whatever the reason, goes on with --resume where it was.
"""

import argparse
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import compat
from ..streaming.settings import ACCUMULATORS
from ..tiling import BLENDS, SYMMETRIES
from ..tiling.arrays import loaded_torch
from .inferencer import UHRInferencer
from .ranks import RankError, process_group, silent_ranks
from .results import SceneResult

# Of a program that Ctrl-C has ended.
_STOPPED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Options that are fields of `model.test_cfg`.
_SETTINGS = (
    'crop_size',
    'stride',
    'batch_size',
    'blend',
    'tta',
    'tta_scales',
    'accumulator',
)


def parse_args() -> argparse.Namespace:
    """Parse the command line.

    Returns:
        argparse.Namespace: With ``config``, ``checkpoint``, None for an
        exported network, and ``images``.
    """
    name = Path(sys.argv[0]).name
    parser = argparse.ArgumentParser(
        usage=f'{name} CONFIG CHECKPOINT IMAGES --out MAP [options]\n'
        f'       {name} NETWORK.onnx IMAGES --out MAP [options]',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'sources',
        nargs='+',
        help='the config of a model, ours or stock, and its weights, or a '
        'network of tools/deployment/export.py; then scenes, anything that '
        'GDAL opens: files, one folder, one pattern in quotes, or one .txt '
        'file with a path per line',
    )
    parser.add_argument(
        '--out',
        required=True,
        help='map to write, in .tif or .png; for several scenes a folder',
    )
    _add_outputs(parser)
    _add_settings(parser)
    _add_running(parser)
    args = parser.parse_args()
    args.config, *others = args.sources
    args.checkpoint = None
    if not _is_onnx(args.config) and others:
        args.checkpoint, *others = others
    if not others:
        parser.error(
            'expected a config, a checkpoint and scenes, or a network '
            '(.onnx) and scenes'
        )
    args.images = others
    return args


def _is_onnx(path: str) -> bool:
    """Tell an exported network from a config, by its name."""
    return Path(path).suffix.lower() == '.onnx'


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add options about what is written."""
    group = parser.add_argument_group('outputs')
    group.add_argument(
        '--cog',
        action='store_true',
        help='write cloud-optimised GeoTIFFs',
    )
    group.add_argument(
        '--overlay',
        help='PNG to write, the classes over the down-sampled scene; for '
        'several scenes a folder',
    )
    group.add_argument(
        '--polygons',
        metavar='FILE',
        help='polygons to write, by class, in .gpkg or .geojson; for several '
        'scenes a folder',
    )
    group.add_argument(
        '--probabilities',
        nargs='+',
        default=(),
        metavar='CLASS',
        help='classes (names or ids) whose probabilities are written, too, '
        'as bytes, beside the map: NAME.probabilities.tif',
    )
    group.add_argument(
        '--confidence',
        action='store_true',
        help='write the probability of the chosen class, too: '
        'NAME.confidence.tif',
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add options about how scenes are predicted."""
    group = parser.add_argument_group(
        'prediction',
        'Without these, what model.test_cfg of the config says, or the '
        'exported network.',
    )
    group.add_argument(
        '--bands',
        type=int,
        nargs='+',
        help='bands of the scene to use, counted from 1',
    )
    group.add_argument(
        '--crop-size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='size of a window in pixels',
    )
    group.add_argument(
        '--stride',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='step from window to window in pixels',
    )
    group.add_argument('--batch-size', type=int, help='windows at a time')
    group.add_argument(
        '--blend', choices=BLENDS, help='how overlapping windows are averaged'
    )
    group.add_argument(
        '--tta',
        choices=list(SYMMETRIES),
        help='average over mirrored and turned windows',
    )
    group.add_argument(
        '--tta-scales',
        type=float,
        nargs='+',
        metavar='FACTOR',
        help='average over sizes of the windows, such as 0.75 1 1.25',
    )
    group.add_argument(
        '--accumulator',
        choices=ACCUMULATORS,
        help='type of the sums of logits',
    )
    if compat.has_stack():
        from mmengine.config import DictAction

        group.add_argument(
            '--cfg-options',
            nargs='+',
            action=DictAction,
            help='other overrides of the config as key=value',
        )
    else:
        parser.set_defaults(cfg_options=None)


def _add_running(parser: argparse.ArgumentParser) -> None:
    """Add options about devices and interrupted runs."""
    group = parser.add_argument_group('running')
    group.add_argument(
        '--resume',
        action='store_true',
        help='go on with an interrupted run, and skip scenes that are done',
    )
    group.add_argument(
        '--overwrite',
        action='store_true',
        help='throw away what an interrupted run has left',
    )
    group.add_argument(
        '--retries',
        type=int,
        default=0,
        metavar='N',
        help='try scenes that cannot be read up to N times again, after all '
        'others (default: 0)',
    )
    group.add_argument(
        '--device',
        help='such as cuda:0 or cpu (default: the best there is); for an '
        'exported network cpu (default), cuda or tensorrt',
    )
    group.add_argument(
        '--budget',
        help='memory of the device that may be used, such as 8GiB or 0.5; '
        'batches, then windows are made smaller to fit',
    )
    group.add_argument(
        '--precision',
        choices=('fp32', 'fp16', 'bf16'),
        help='of the forward pass (default: fp32)',
    )
    group.add_argument(
        '--channels-last',
        action='store_true',
        help='keep channels innermost in memory, faster for many models',
    )
    group.add_argument(
        '--compile',
        action='store_true',
        help='compile the model with torch.compile before it runs',
    )
    group.add_argument(
        '--launcher',
        choices=('none', 'pytorch'),
        default='none',
        help='how the processes were started, see dist_segment.sh',
    )
    group.add_argument(
        '--report', type=Path, help='JSON to write: time and peak memory'
    )
    group.add_argument(
        '--quiet', action='store_true', help='show no progress bar'
    )


def build(args: argparse.Namespace) -> UHRInferencer:
    """Build the inferencer of the command line."""
    options = dict(args.cfg_options or {})
    for name in _SETTINGS:
        if (value := getattr(args, name)) is not None:
            value = tuple(value) if isinstance(value, list) else value
            options[f'model.test_cfg.{name}'] = value
    is_onnx = _is_onnx(args.config)
    device, torch = args.device, loaded_torch()
    devices = 0 if is_onnx or torch is None else torch.cuda.device_count()
    if device is None and args.launcher != 'none' and devices:
        device = f'cuda:{int(os.environ.get("LOCAL_RANK", 0)) % devices}'
    # Only what was asked for.
    extras = dict(
        precision=args.precision,
        channels_last=args.channels_last,
        compile=args.compile,
    )
    return UHRInferencer(
        args.config,
        args.checkpoint,
        device,
        args.budget,
        options,
        'onnxruntime' if is_onnx else 'torch',
        **{name: value for name, value in extras.items() if value},
    )


def segment(
    inferencer: UHRInferencer, args: argparse.Namespace
) -> list[SceneResult]:
    """Segment the scenes of the command line."""
    single = len(args.images) == 1
    results = inferencer(
        args.images[0] if single else args.images,
        args.out,
        overlay=args.overlay,
        probabilities=args.probabilities,
        confidence=args.confidence,
        polygons=args.polygons,
        cog=args.cog,
        resume=args.resume,
        overwrite=args.overwrite,
        retries=args.retries,
        bands=args.bands,
        progress=not args.quiet,
    )
    return results if isinstance(results, list) else [results]


def report(results: Sequence[SceneResult], path: Path | None) -> None:
    """Tell what was done, and at what cost."""
    torch = loaded_torch()
    memory = dict(
        process_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        device_mib=torch.cuda.max_memory_allocated() / 2**20
        if torch and torch.cuda.is_available()
        else 0.0,
    )
    for result in results:
        if result.skipped:
            print(f'{result.out}: finished already')
            continue
        earlier = result.megapixels - result.predicted
        print(
            f'{result.out}: {result.predicted:.1f} MP in '
            f'{result.seconds:.1f} s, {result.seconds_per_megapixel:.2f} s/MP'
            + (f'; {earlier:.1f} MP were there' if earlier else '')
        )
    print(
        f'peak memory of the process {memory["process_mib"]:.0f} MiB, of the '
        f'device {memory["device_mib"]:.0f} MiB'
    )
    if path is not None:
        scenes: list[dict[str, Any]] = [
            dict(
                image=result.image,
                out=str(result.out),
                megapixels=result.megapixels,
                predicted=result.predicted,
                seconds=result.seconds,
                seconds_per_megapixel=result.seconds_per_megapixel,
                skipped=result.skipped,
            )
            for result in results
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(memory, scenes=scenes)))


def with_kept(reason: str, inferencer: UHRInferencer | None) -> str:
    """Add to the reason why a run has ended early how to go on with it."""
    kept = inferencer.kept if inferencer is not None else {}
    if not kept or '--overwrite' in reason:
        return reason
    parts = ', '.join(f'{share:.0%} in {path}' for path, share in kept.items())
    return f'{reason}; {parts} is kept; go on with --resume'


def _stop(*_: object) -> None:
    """Make other signals what Ctrl-C is."""
    raise KeyboardInterrupt


def run(args: argparse.Namespace) -> tuple[int, str]:
    """Run the tool in one process.

    Returns:
        tuple[int, str]: Exit code and, if that is not 0, the reason.
    """
    inferencer = None
    try:
        inferencer = build(args)
        results = segment(inferencer, args)
    except KeyboardInterrupt:
        # Those that follow are of torchrun, which ends all.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        lost = silent_ranks()
        reason = f'stopped; {lost}' if lost else 'stopped'
        return _STOPPED, with_kept(reason, inferencer)
    except (ValueError, FileNotFoundError, ImportError, RankError) as error:
        return 1, with_kept(str(error), inferencer)
    except Exception:
        traceback.print_exc()
        return 1, with_kept('failed, see above', inferencer)
    if compat.rank_and_world()[0] == 0:
        report(results, args.report)
    return 0, ''


def main() -> None:
    """Run the tool; bad input ends it with one sentence."""
    args = parse_args()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    signal.signal(signal.SIGTERM, _stop)
    try:
        with process_group(args.launcher):
            code, reason = run(args)
            # A process that ends makes torchrun stop the others.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if compat.rank_and_world()[0] > 0:
                reason = ''
    except (ValueError, ImportError) as error:
        code, reason = 1, str(error)
    if reason:
        name = Path(sys.argv[0]).name
        print(f'{name}: {reason}', file=sys.stderr, flush=True)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if code:
        sys.exit(code)
