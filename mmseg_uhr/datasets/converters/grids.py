"""Labels that do not come a file an image: polygons and mosaics."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import rasterio.features
import rasterio.warp
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from ...rasters import FileRaster, RasterError
from ...rasters.verify import opened
from .decoding import IGNORE, Decoder, LabelReader, stripes

_NAMED = 5
# Reading a mosaic costs a block, however small the stripe.
_MOSAIC_PIXELS = 2**21


@dataclass(frozen=True)
class Polygons(Decoder):
    """Polygons of a vector file, drawn onto the grid of each image.

    A pixel has the class of the polygon that its centre is in; of several,
    that of the later feature.

    Args:
        path (Path): GeoPackage, GeoJSON, or whatever pyogrio reads.
        field (str): The attribute that tells the class.
        table (tuple[tuple[str, int]]): Pairs of a value of the field, as
            text, and its class id, or 255.
        outside (int): Class id of pixels in no polygon; 255, ignored, by
            default.
        layer (str, optional): Layer of the file. Defaults to its only one.
        skip_others (bool): Whether features of other values are left out
            instead of being an error. Defaults to False.
    """

    path: Path
    field: str
    table: tuple[tuple[str, int], ...]
    outside: int = IGNORE
    layer: str | None = None
    skip_others: bool = False

    def open(self, path: str | Path) -> LabelReader:
        """Read the polygons that meet an image.

        Raises:
            RasterError: If the image or the polygons have no CRS, or a
                feature is of no class or no polygon.
            ImportError: If pyogrio or shapely is missing.
        """
        return _PolygonReader(self, FileRaster(path))

    def check(self) -> None:
        """Make sure that the file has the layer, the field and a CRS.

        Raises:
            RasterError: If not, with what there is.
            ImportError: If pyogrio or shapely is missing.
        """
        pyogrio = _import('pyogrio')
        _import('shapely')
        name = str(self.path)
        try:
            layers = [str(row[0]) for row in pyogrio.list_layers(self.path)]
            if self.layer is None and len(layers) != 1:
                raise RasterError(
                    name, f'has the layers {layers}; choose with --layer'
                )
            if self.layer is not None and self.layer not in layers:
                raise RasterError(
                    name, f'has no layer {self.layer!r}, but {layers}'
                )
            info = pyogrio.read_info(self.path, layer=self.layer)
        # The base of pyogrio's own errors.
        except RuntimeError as error:
            raise RasterError(
                name, f'cannot be read as a vector file ({error})'
            ) from error
        if self.field not in info['fields']:
            raise RasterError(
                name,
                f'has no field {self.field!r}, but {list(info["fields"])}; '
                'choose with --field',
            )
        if info['crs'] is None:
            raise RasterError(
                name,
                'has no CRS, so nobody knows where its polygons lie; assign '
                'one (ogr2ogr -a_srs)',
            )


class _PolygonReader(LabelReader):
    """Draws polygons in stripes."""

    def __init__(self, polygons: Polygons, image: FileRaster) -> None:
        self.polygons = polygons
        self.shape, self.georef = image.shape, image.georef
        self._ids: list[int] = []
        self._shapes: list[dict] = []
        self._bounds = np.empty((0, 4))
        if self.georef is None or self.georef.crs is None:
            raise RasterError(
                image.name,
                'has no CRS, so polygons cannot be drawn onto it; assign one '
                '(gdal_edit.py -a_srs)',
            )
        self._load()

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        width = self.shape[1]
        for y, height in stripes(self.shape):
            ids = np.full((height, width), self.polygons.outside, np.uint8)
            meets = (self._bounds[:, 3] >= y) & (
                self._bounds[:, 1] <= y + height
            )
            drawn = [
                (self._shapes[i], self._ids[i]) for i in np.flatnonzero(meets)
            ]
            if drawn:
                # Coordinates are pixels, so a stripe is a whole number down.
                rasterio.features.rasterize(
                    drawn, out=ids, transform=Affine.translation(0, y)
                )
            yield y, ids

    def _load(self) -> None:
        """Read the polygons around the image, in its pixels."""
        polygons, name = self.polygons, str(self.polygons.path)
        pyogrio, shapely = _import('pyogrio'), _import('shapely')
        info = pyogrio.read_info(polygons.path, layer=polygons.layer)
        crs = CRS.from_user_input(info['crs'])
        try:
            _, _, geometries, (values,) = pyogrio.raw.read(
                polygons.path,
                layer=polygons.layer,
                columns=[polygons.field],
                bbox=self._box(crs),
            )
        except RuntimeError as error:
            raise RasterError(name, f'cannot be read ({error})') from error
        geometries = shapely.from_wkb(geometries)
        kept = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
        geometries, values = geometries[kept], values[kept]
        self._check_types(shapely, geometries)
        ids = self._classes(values)
        known = ids >= 0
        geometries = shapely.force_2d(geometries[known])
        if not len(geometries):
            return
        into = ~self.georef.transform

        def to_pixels(points: np.ndarray) -> np.ndarray:
            x, y = points.T
            if crs != self.georef.crs:
                x, y = map(
                    np.asarray,
                    rasterio.warp.transform(crs, self.georef.crs, x, y),
                )
            return np.stack(_apply(into, x, y), axis=1)

        geometries = shapely.transform(geometries, to_pixels)
        self._ids = ids[known].tolist()
        self._shapes = [g.__geo_interface__ for g in geometries]
        self._bounds = shapely.bounds(geometries)

    def _box(self, crs: CRS) -> tuple[float, float, float, float]:
        """Return the image's bounds in the CRS of the polygons."""
        height, width = self.shape
        columns = np.array([0, width, 0, width])
        rows = np.array([0, 0, height, height])
        x, y = _apply(self.georef.transform, columns, rows)
        box = min(x), min(y), max(x), max(y)
        if crs == self.georef.crs:
            return box
        return rasterio.warp.transform_bounds(self.georef.crs, crs, *box)

    def _check_types(self, shapely: ModuleType, geometries: Any) -> None:
        """Refuse points and lines."""
        kinds = Counter(g.geom_type for g in geometries)
        others = {
            k: n
            for k, n in kinds.items()
            if k not in ('Polygon', 'MultiPolygon')
        }
        if others:
            raise RasterError(
                str(self.polygons.path),
                f'holds {others}; only polygons can be drawn as labels',
            )

    def _classes(self, values: np.ndarray) -> np.ndarray:
        """Return the class ids of values of the field, -1 for none."""
        table = dict(self.polygons.table)
        texts = [_text(value) for value in values]
        ids = np.array([table.get(text, -1) for text in texts], np.int16)
        strange = Counter(t for t in texts if t not in table)
        if strange and not self.polygons.skip_others:
            found = ', '.join(
                f'{value!r} ({n} times)'
                for value, n in strange.most_common(_NAMED)
            )
            raise RasterError(
                str(self.polygons.path),
                f'the field {self.polygons.field!r} holds values that '
                f'--classes does not name: {found}; name them, or leave them '
                'out with --skip',
            )
        return ids


@dataclass(frozen=True)
class Mosaic(Decoder):
    """Label rasters that cover several images, put on each image's grid.

    Every pixel takes the nearest value; where several files have one, that of
    the last.

    Args:
        paths (tuple[Path]): Rasters of one band, in any CRS.
        table (tuple[tuple[str, int]]): Pairs of a value, as text, and its
            class id, or 255.
        outside (int): Class id of pixels without a value; 255, ignored, by
            default.
        skip_others (bool): Whether pixels of other values are ignored instead
            of being an error. Defaults to False.
    """

    paths: tuple[Path, ...]
    table: tuple[tuple[str, int], ...]
    outside: int = IGNORE
    skip_others: bool = False

    def open(self, path: str | Path) -> LabelReader:
        """Open the rasters on an image's grid.

        Raises:
            RasterError: If the image or a raster has no CRS, or a raster is
                no label map.
        """
        return _MosaicReader(self, FileRaster(path))


class _MosaicReader(LabelReader):
    """Reads rasters on another one's grid, in stripes."""

    def __init__(self, mosaic: Mosaic, image: FileRaster) -> None:
        self.mosaic = mosaic
        self.shape, self.georef = image.shape, image.georef
        for raster in (image, *map(FileRaster, mosaic.paths)):
            if raster.georef is None or raster.georef.crs is None:
                raise RasterError(
                    raster.name,
                    'has no CRS, so a mosaic cannot be put on the grid of an '
                    'image; assign one (gdal_edit.py -a_srs)',
                )
            if raster is not image and (
                raster.file_bands != 1 or raster.dtype.kind not in 'iu'
            ):
                raise RasterError(
                    raster.name,
                    f'holds {raster.file_bands} band(s) of {raster.dtype}; '
                    'labels must be one band of integers',
                )
        try:
            self._table = {int(value): i for value, i in mosaic.table}
        except ValueError as error:
            raise RasterError(
                str(mosaic.paths[0]),
                'a raster holds numbers, but --classes names another value '
                f'({error})',
            ) from error

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        height, width = self.shape
        grid = dict(
            crs=self.georef.crs,
            transform=self.georef.transform,
            height=height,
            width=width,
            resampling=Resampling.nearest,
        )
        strange: Counter = Counter()
        with ExitStack() as stack:
            rasters = []
            for path in self.mosaic.paths:
                dataset = stack.enter_context(opened(path))
                # Where there is no nodata value, a mask tells what is covered.
                options = (
                    {} if dataset.nodata is not None else {'add_alpha': True}
                )
                vrt = WarpedVRT(dataset, **grid, **options)
                rasters.append((path, stack.enter_context(vrt)))
            for y, rows in stripes(self.shape, _MOSAIC_PIXELS):
                ids = np.full((rows, width), self.mosaic.outside, np.uint8)
                window = Window(0, y, width, rows)
                for path, vrt in rasters:
                    self._draw(path, vrt, window, ids, strange)
                yield y, ids
        self.unmatched = sum(strange.values())
        if strange and not self.mosaic.skip_others:
            found = ', '.join(
                f'{value} ({n} pixels)'
                for value, n in strange.most_common(_NAMED)
            )
            raise RasterError(
                str(self.mosaic.paths[0]),
                f'holds values that --classes does not name: {found}; name '
                'them, or have them ignored with --skip',
            )

    def _draw(
        self,
        path: Path,
        vrt: WarpedVRT,
        window: Window,
        ids: np.ndarray,
        strange: Counter,
    ) -> None:
        """Put a raster's classes where it has values."""
        try:
            values = vrt.read(1, window=window)
            covered = vrt.dataset_mask(window=window) > 0
        except RasterioError as error:
            raise RasterError(
                str(path), f'cannot be read ({error}); is it damaged?'
            ) from error
        for value in np.unique(values[covered]).tolist():
            here = covered & (values == value)
            if value not in self._table:
                strange[value] += int(np.count_nonzero(here))
            ids[here] = self._table.get(value, IGNORE)


def _apply(
    transform: Affine, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Transform points; ``*`` and ``@`` mean it in other versions each."""
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


def _text(value: Any) -> str:
    """Return a value as a user would write it."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value)


def _import(package: str) -> ModuleType:
    """Import a package that only polygons need."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f'polygons as labels need {package}: '
            'pip install "mmsegmentation-uhr[vector]"'
        ) from error
