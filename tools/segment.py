"""Segment a scene of any size into a georeferenced, paletted GeoTIFF."""

import argparse
import json
import resource
import sys
from pathlib import Path

import torch
from mmengine.config import DictAction

import mmseg_uhr  # noqa: F401  registers the types that configs name
from mmseg_uhr.apis import init_segmentor, segment


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the model, ours or stock')
    parser.add_argument('checkpoint', help='weights')
    parser.add_argument('image', help='scene: anything that GDAL opens')
    parser.add_argument('--out', required=True, help='GeoTIFF to write')
    parser.add_argument(
        '--overlay', help='PNG to write: classes over the down-sampled scene'
    )
    parser.add_argument(
        '--device', help='such as cuda:0 or cpu (default: the best there is)'
    )
    parser.add_argument(
        '--bands',
        type=int,
        nargs='+',
        help='bands of the scene to use, counted from 1',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='overrides of the config, such as '
        'model.test_cfg.batch_size=4 model.test_cfg.blend=gaussian',
    )
    parser.add_argument(
        '--report', type=Path, help='JSON to write: time and peak memory'
    )
    parser.add_argument(
        '--quiet', action='store_true', help='show no progress bar'
    )
    return parser.parse_args()


def main() -> None:
    """Run the tool; bad input ends it with one sentence."""
    args = parse_args()
    try:
        model = init_segmentor(
            args.config, args.checkpoint, args.device, args.cfg_options
        )
        result = segment(
            model,
            args.image,
            args.out,
            overlay=args.overlay,
            bands=args.bands and tuple(args.bands),
            progress=not args.quiet,
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'segment.py: {error}')
    result['process_mib'] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    result['device_mib'] = (
        torch.cuda.max_memory_allocated() / 2**20
        if torch.cuda.is_available()
        else 0.0
    )
    if args.report is not None:
        args.report.write_text(json.dumps(result))
    print(
        f'{args.out}: {result["megapixels"]:.1f} MP in '
        f'{result["seconds"]:.1f} s, '
        f'{result["seconds_per_megapixel"]:.2f} s/MP; peak memory of the '
        f'process {result["process_mib"]:.0f} MiB, of the device '
        f'{result["device_mib"]:.0f} MiB'
    )


if __name__ == '__main__':
    main()
