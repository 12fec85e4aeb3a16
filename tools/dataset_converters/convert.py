"""Convert the official download of a data set to the layout of its config.

Reads folders, zip and tar archives; nothing is unpacked as a whole, nothing
is fetched from the network. Writes 8-bit label maps, images that can be read
by window, and report.json. A run that was stopped goes on when it is started
again.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from mmseg_uhr.datasets.converters import (
    DATA_SETS,
    ConversionError,
    DataSetSpec,
    Values,
    convert,
    convert_own,
    summary,
)
from mmseg_uhr.rasters import RasterError


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(
        dest='data_set', required=True, metavar='DATA_SET'
    )
    for spec in DATA_SETS.values():
        command = commands.add_parser(
            spec.name,
            help=spec.title,
            description=f'{spec.title}. Expected files: {spec.layout}',
        )
        command.add_argument(
            'sources',
            nargs='+',
            type=Path,
            metavar='SOURCE',
            help='folder or archive (.zip, .tar, .tar.gz) of the download',
        )
        command.add_argument(
            '--label-values',
            type=parse_pairs,
            metavar='CLASS=VALUE,...',
            help='the label files hold these values instead of what is '
            'expected; ids of classes stay those of the data set; '
            'ignored=VALUE for pixels without a label',
        )
        add_common(command, f'data/{spec.name}')
    own = commands.add_parser(
        'own',
        help='your own images, with polygons or rasters as labels',
        description='Images with labels as polygons, rasters of the same '
        'names, or rasters that cover several images. Images in folders '
        'train, val, test are of that split.',
    )
    own.add_argument('--images', type=Path, required=True, metavar='DIR')
    own.add_argument(
        '--labels',
        type=Path,
        required=True,
        metavar='FILE_OR_DIR',
        help='a GeoPackage, GeoJSON or Shapefile; a raster; or a folder of '
        'rasters',
    )
    own.add_argument(
        '--classes',
        type=parse_pairs,
        required=True,
        metavar='CLASS=VALUE,...',
        help='the value of the field or of the pixels that means each class; '
        'class ids are in this order, from 0',
    )
    own.add_argument('--field', help='of polygons: what tells the class')
    own.add_argument('--layer', help='of polygons: if there are several')
    own.add_argument(
        '--outside',
        metavar='CLASS',
        help='class of pixels without a label (default: they are ignored)',
    )
    add_common(own, 'data/own')
    return parser.parse_args()


def add_common(parser: argparse.ArgumentParser, out: str) -> None:
    """Add the options that all data sets have."""
    parser.add_argument(
        '--out',
        type=Path,
        default=Path(out),
        metavar='DIR',
        help='folder of the converted data set (default: %(default)s)',
    )
    parser.add_argument(
        '--split-lists',
        type=Path,
        metavar='DIR',
        help='folder of train.txt, val.txt, test.txt with the name of a scene '
        "a line (default: the field's lists, or the download's own splits)",
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar='N',
        help='processes (default: %(default)s)',
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        '--strict',
        dest='strict',
        action='store_true',
        default=True,
        help='stop at anything that is not as expected (default)',
    )
    mode.add_argument(
        '--skip',
        dest='strict',
        action='store_false',
        help='leave such files out; report.json names them',
    )
    parser.add_argument(
        '--tile-images',
        choices=('yes', 'no'),
        help='yes: all images become tiled GeoTIFF; no: they are linked as '
        'they are (default: tiled are those that cannot be read by window)',
    )


def parse_pairs(text: str) -> dict[str, str]:
    """Read ``name=value,name=value``."""
    pairs: dict[str, str] = {}
    for part in text.split(','):
        name, equals, value = (side.strip() for side in part.partition('='))
        if not (equals and name and value) or name in pairs:
            raise argparse.ArgumentTypeError(
                f'{part!r}: expected CLASS=VALUE, each class once'
            )
        pairs[name] = value
    return pairs


def label_values(spec: DataSetSpec, pairs: dict[str, str]) -> Values:
    """Make the decoder that ``--label-values`` asks for."""
    names = {'ignored': 255, **{n: i for i, n in enumerate(spec.classes)}}
    unknown = sorted(set(pairs) - set(names))
    missing = [name for name in spec.classes if name not in pairs]
    values = {int(v) for v in pairs.values() if v.isdecimal()}
    # Fewer if one is no number, or stands twice.
    wrong = len(values) < len(pairs) or max(values) >= 2**16
    if unknown or missing or wrong:
        raise ConversionError(
            f'--label-values: expected a whole number of its own, at most '
            f'65535, for each of {", ".join(spec.classes)}; unknown: '
            f'{unknown}, missing: {missing}'
        )
    return Values(tuple((int(v), names[n]) for n, v in pairs.items()))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Convert what is asked for."""
    common = dict(
        jobs=args.jobs,
        strict=args.strict,
        split_lists=args.split_lists,
        tile_images=args.tile_images and args.tile_images == 'yes',
    )
    if args.data_set == 'own':
        return convert_own(
            args.images,
            args.labels,
            args.classes,
            args.out,
            args.field,
            args.layer,
            args.outside,
            **common,
        )
    spec = DATA_SETS[args.data_set]
    decoder = args.label_values and label_values(spec, args.label_values)
    return convert(spec, args.sources, args.out, decoder=decoder, **common)


def main() -> None:
    """Convert, or tell why that is not possible."""
    args = parse_args()
    try:
        report = run(args)
    except (ConversionError, RasterError, ImportError, OSError) as error:
        sys.exit(f'convert.py: {error}')
    except KeyboardInterrupt:
        sys.exit('convert.py: stopped; run again to go on')
    print(summary(report, args.out))


if __name__ == '__main__':
    main()
