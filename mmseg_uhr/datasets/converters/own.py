"""Your own folder of images, with polygons or rasters as labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..uhr_dataset import UHRDataset
from .collect import Collection, Problem, Scene, read_lists
from .decoding import IGNORE, Decoder, Values
from .engine import convert_scenes
from .grids import Mosaic, Polygons
from .sources import Member, list_source
from .spec import SPLITS, ConversionError, DataSetSpec

_IMAGES = ('.tif', '.tiff', '.png', '.jpg', '.jpeg', '.jp2', '.vrt')
_VECTORS = ('.gpkg', '.geojson', '.json', '.shp', '.fgb')
# Far apart in hue, for the palette of the label files.
_PALETTE = (
    *([0, 92, 230], [0, 158, 73], [230, 159, 0], [213, 43, 30]),
    *([160, 90, 200], [240, 228, 66], [86, 180, 233], [140, 86, 75]),
    *([227, 119, 194], [127, 127, 127], [188, 189, 34], [23, 190, 207]),
)


@dataclass(frozen=True)
class _OwnSpec(DataSetSpec):
    """A description whose classes the user names."""

    names: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.names

    @property
    def palette(self) -> list[list[int]]:
        count = len(self.names)
        # Beyond the named colours any that differ will do.
        more = [[i, 255 - i, i * 7 % 256] for i in range(count)]
        return [*_PALETTE[:count], *more[len(_PALETTE) : count]]


def convert_own(
    images: str | Path,
    labels: str | Path,
    classes: Mapping[str, str | int],
    out: str | Path,
    field: str | None = None,
    layer: str | None = None,
    outside: str | None = None,
    jobs: int = 1,
    strict: bool = True,
    split_lists: str | Path | None = None,
    tile_images: bool | None = None,
) -> dict[str, Any]:
    """Convert a folder of images of one's own.

    Labels are polygons, drawn onto the grid of each image; or rasters of the
    names of the images; or rasters that cover several images, put on the grid
    of each. Images in folders ``train``, ``val`` and ``test`` are of that
    split.

    Args:
        images (str | Path): Folder of images.
        labels (str | Path): A vector file, a raster, or a folder of rasters.
        classes (Mapping[str, str | int]): Name of each class -> value of the
            field, or of the pixels, that means it; ids are in this order.
        out (str | Path): Folder of the converted data set.
        field (str, optional): Of polygons: the attribute that tells the class.
        layer (str, optional): Of polygons: which layer, if there are several.
        outside (str, optional): Class of pixels without a label. Defaults to
            none: they are ignored.
        jobs (int): Processes. Defaults to 1.
        strict (bool): Whether anything wrong is an error. Defaults to True.
        split_lists (str | Path, optional): Folder of ``train.txt``,
            ``val.txt``, ``test.txt`` with the name of an image a line.
        tile_images (bool, optional): See :func:`convert`.

    Returns:
        dict: What ``report.json`` holds.

    Raises:
        ConversionError: If images or labels are not as told.
        RasterError: If the vector file is not as told.
        ImportError: If polygons are given and a package is missing.
    """
    images, labels = Path(images), Path(labels)
    if outside is not None and outside not in classes:
        raise ConversionError(
            f'outside={outside!r}: expected one of the classes '
            f'{list(classes)}, or nothing to ignore these pixels'
        )
    table = tuple((str(value), i) for i, value in enumerate(classes.values()))
    if len(dict(table)) < len(table) or not table:
        raise ConversionError(
            f'classes={dict(classes)}: expected a value of its own for each '
            'class'
        )
    rest = IGNORE if outside is None else list(classes).index(outside)
    files = _images(images, labels)
    decoder, label_of = _labels(
        labels, files, table, rest, field, layer, not strict
    )
    spec = _OwnSpec(
        name='own',
        title='your own images',
        layout='',
        dataset=UHRDataset,
        images='',
        labels='',
        decoder=decoder,
        names=tuple(classes),
    )
    found = _collect(spec, files, label_of, split_lists)
    return convert_scenes(
        spec, found, [images, labels], Path(out), jobs, strict, tile_images
    )


def _images(folder: Path, labels: Path) -> dict[str, Member]:
    """Return the images of a folder by their path without suffix."""
    if not folder.is_dir():
        raise ConversionError(f'{folder}: no such folder of images')
    inner = labels.resolve()
    files: dict[str, Member] = {}
    for member in list_source(folder):
        path = member.source.resolve()
        if path.suffix.lower() not in _IMAGES or inner in (
            path,
            *path.parents,
        ):
            continue
        name = member.source.relative_to(folder).with_suffix('').as_posix()
        if name in files:
            raise ConversionError(
                f'{files[name]} and {member} have the same name; which one is '
                'the image?'
            )
        files[name] = member
    if not files:
        raise ConversionError(
            f'{folder}: no images found; expected files in '
            f'{", ".join(_IMAGES)}'
        )
    return files


def _labels(
    labels: Path,
    files: dict[str, Member],
    table: tuple[tuple[str, int], ...],
    rest: int,
    field: str | None,
    layer: str | None,
    skip_others: bool,
) -> tuple[Decoder, dict[str, Member]]:
    """Find out of what kind labels are, and what they are made of."""
    if not labels.exists():
        raise ConversionError(f'{labels}: no such file or folder of labels')
    if labels.is_dir():
        rasters = {
            m.source.relative_to(labels).with_suffix('').as_posix(): m
            for m in list_source(labels)
            if m.source.suffix.lower() in _IMAGES
        }
        if not rasters:
            raise ConversionError(
                f'{labels}: no rasters found; give a vector file by its name'
            )
        if not files.keys().isdisjoint(rasters):
            return Values(_numbers(table, rest)), rasters
        paths = tuple(m.source for m in rasters.values())
        return Mosaic(paths, table, rest, skip_others), dict(files)
    if labels.suffix.lower() in _VECTORS:
        if field is None:
            raise ConversionError(
                f'{labels}: name the field that tells the class with --field'
            )
        polygons = Polygons(labels, field, table, rest, layer, skip_others)
        polygons.check()
        return polygons, dict(files)
    return Mosaic((labels,), table, rest, skip_others), dict(files)


def _numbers(
    table: tuple[tuple[str, int], ...], rest: int
) -> tuple[tuple[int, int], ...]:
    """Return a table of pixel values; 255 is no label."""
    try:
        numbers = {int(value): class_id for value, class_id in table}
    except ValueError as error:
        raise ConversionError(
            f'classes: rasters hold numbers, but another value is named '
            f'({error})'
        ) from error
    numbers.setdefault(IGNORE, rest)
    if not all(0 <= value < 2**16 for value in numbers):
        raise ConversionError('classes: expected values from 0 to 65535')
    return tuple(numbers.items())


def _collect(
    spec: DataSetSpec,
    files: dict[str, Member],
    label_of: dict[str, Member],
    split_lists: str | Path | None,
) -> Collection:
    """Make scenes, of lists or of all images."""
    found = Collection()
    read_lists(spec, split_lists and Path(split_lists), found)
    split_of = {n: s for s, names in found.lists.items() for n in names}
    for name in sorted(set(split_of) - set(files)):
        found.problems.append(
            Problem('entries of split lists without files', name)
        )
    for name, member in files.items():
        split, scene = '', name
        if found.lists:
            if name not in split_of:
                continue
            split = split_of[name]
        elif name.split('/')[0] in SPLITS and '/' in name:
            split, _, scene = name.partition('/')
        if name in label_of:
            found.scenes.append(Scene(scene, split, member, label_of[name]))
        else:
            found.problems.append(
                Problem('images without a label file', str(member))
            )
    for name in sorted(set(label_of) - set(files)):
        found.problems.append(
            Problem('label files without an image', str(label_of[name]))
        )
    return found
