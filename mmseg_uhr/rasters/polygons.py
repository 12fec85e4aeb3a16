"""Polygons of the regions of a label map, made in stripes of rows."""

import json
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import rasterio.features
import rasterio.warp
from affine import Affine
from rasterio.errors import CRSError

from .base import GeoReference, RasterError
from .open import RasterLike, as_raster
from .verify import GDAL_ERRORS, finish_file

SUFFIXES = ('.gpkg', '.geojson')
# Types that GDAL makes polygons of.
_TYPES = ('uint8', 'int16', 'uint16', 'int32')
# Polygons written at a time.
_BATCH = 1024
# Decimals of degrees in GeoJSON: 0.1 mm.
_DECIMALS = 9


def check_polygon_path(path: str | Path) -> None:
    """Make sure that polygons can be written, before work is put into them.

    Args:
        path (str | Path): The file to write.

    Raises:
        RasterError: If the suffix is unknown.
        ImportError: If a package is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise RasterError(
            str(path),
            f'polygons are written as {" or ".join(SUFFIXES)}, chosen by the '
            f'suffix; found {suffix!r}',
        )
    _import('shapely')
    if suffix == '.gpkg':
        _import('pyogrio')


def write_polygons(
    labels: RasterLike,
    path: str | Path,
    classes: Sequence[str],
    ignored: Collection[int] = (),
    min_pixels: int = 0,
    progress: Callable[[int, int], None] | None = None,
    stripe_rows: int = 1024,
) -> int:
    """Write a polygon for each connected region of a label map.

    Pixels of a class that share a side are connected. The map is read in
    stripes of rows; memory is a stripe and the outlines of regions that go on
    below it, such as a background's.
    Attributes are ``class_id``, ``class_name`` and ``area`` in square units
    of the coordinates. GeoJSON has degrees (EPSG:4326, as RFC 7946 wants),
    GeoPackage the map's CRS; without a CRS coordinates are those of a world
    file or, without that, pixels, ``(column, row)`` from the upper left
    corner. The file gets its name when it is complete.

    Args:
        labels (RasterLike): Class ids, one band; a file, array or raster.
        path (str | Path): ``.gpkg`` (needs pyogrio) or ``.geojson``.
        classes (Sequence[str]): Their names.
        ignored (Collection[int]): Ids that get no polygons. Pixels without
            data never do.
        min_pixels (int): Smaller regions are left out. Defaults to 0.
        progress (Callable, optional): Called with rows done and all rows.
        stripe_rows (int): Rows read at a time. Defaults to 1024.

    Returns:
        int: How many polygons were written.

    Raises:
        RasterError: If the map cannot be read, has a value that is neither a
            class nor ignored, or the file cannot be written.
        ImportError: If a package is missing.
    """
    path = Path(path)
    check_polygon_path(path)
    raster = as_raster(labels)
    if raster.bands != 1 or raster.dtype.kind not in 'iu':
        raise RasterError(
            raster.name,
            'expected a label map, one band of integers; found '
            f'{raster.bands} x {raster.dtype}',
        )
    partial = path.with_name(f'.{path.stem}.partial{path.suffix}')
    kind = _GeoPackage if path.suffix.lower() == '.gpkg' else _GeoJSON
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of a run that was killed: GDAL would add to it.
        _remove(partial)
        with kind(partial, classes, raster.georef) as writer:
            regions = _regions(raster, classes, ignored, stripe_rows, progress)
            for class_id, polygon in regions:
                if polygon.area >= min_pixels:
                    writer.add(class_id, polygon)
        finish_file(partial, path)
    except RasterError:
        raise
    except GDAL_ERRORS as error:
        raise RasterError(
            str(path), f'polygons cannot be written ({error})'
        ) from error
    finally:
        _remove(partial)
    return writer.count


def _remove(partial: Path) -> None:
    """Remove an unfinished file and what SQLite keeps beside it."""
    for rest in ('', '-journal', '-wal', '-shm'):
        with suppress(OSError):
            os.unlink(f'{partial}{rest}')


class _Region:
    """A connected region, in pieces until all of them are known."""

    def __init__(self, class_id: int, piece: Any) -> None:
        self.class_id = class_id
        self.pieces = [piece]
        self.part_of: _Region | None = None

    def whole(self) -> '_Region':
        """Return the region that this one has become a part of."""
        region = self
        while region.part_of is not None:
            region = region.part_of
        return region

    def join(self, other: '_Region') -> None:
        """Make one region of two."""
        small, large = sorted(
            (self.whole(), other.whole()), key=lambda r: len(r.pieces)
        )
        if small is not large:
            large.pieces += small.pieces
            small.part_of, small.pieces = large, []

    def polygon(self) -> Any:
        """Unite the pieces."""
        if len(self.pieces) == 1:
            return self.pieces[0]
        shapely = _import('shapely')
        # Pieces meet at rims of stripes, where no piece has a hole: holes,
        # of which a background has many, need not be united.
        shells = shapely.polygons([p.exterior for p in self.pieces])
        # Without the corners where stripes met.
        shell = shapely.simplify(shapely.union_all(shells), 0)
        holes = [hole for p in self.pieces for hole in p.interiors]
        return shapely.Polygon(shell.exterior, [*shell.interiors, *holes])


def _regions(
    raster: Any,
    classes: Sequence[str],
    ignored: Collection[int],
    stripe_rows: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[int, Any]]:
    """Yield class ids and polygons, in pixels, as soon as they are whole."""
    height, width = raster.shape
    # Of the row above: the regions by index, and which one each pixel is in.
    above: list[_Region] = []
    above_index = np.full(width, -1)
    for y in range(0, height, stripe_rows):
        rows = min(stripe_rows, height - y)
        window = (y, 0, rows, width)
        values = raster.read(window)[..., 0]
        valid = ~np.isin(values, list(ignored))
        if raster.has_mask and (mask := raster.read_mask(window)) is not None:
            valid &= mask
        _check_values(raster.name, values, valid, classes, y)
        stripe: list[_Region] = []
        for class_id, piece in _pieces(values, valid, y):
            _, first, _, last = piece.bounds
            if y < first and last < y + rows:
                yield class_id, piece
            else:
                stripe.append(_Region(class_id, piece))
        top = _edge(stripe, y, width)
        bottom = _edge(stripe, y + rows, width)
        meets = (above_index >= 0) & (top >= 0)
        for i, j in np.unique(
            np.stack((above_index[meets], top[meets])), axis=1
        ).T:
            if above[i].class_id == stripe[j].class_id:
                above[i].join(stripe[j])
        below = {stripe[j].whole() for j in np.unique(bottom[bottom >= 0])}
        if y + rows == height:
            below = set()
        # In an order that does not depend on addresses.
        for region in dict.fromkeys(r.whole() for r in above + stripe):
            if region not in below:
                yield region.class_id, region.polygon()
        # Only what goes on stays in memory.
        indices, above_index = np.unique(bottom, return_inverse=True)
        above = [stripe[j].whole() for j in indices if j >= 0]
        above_index = above_index - (len(indices) - len(above))
        if progress is not None:
            progress(y + rows, height)


def _check_values(
    name: str,
    values: np.ndarray,
    valid: np.ndarray,
    classes: Sequence[str],
    y: int,
) -> None:
    """Refuse values that name no class."""
    strange = valid & ((values < 0) | (values >= len(classes)))
    if strange.any():
        row, column = np.argwhere(strange)[0]
        raise RasterError(
            name,
            f'value {values[row, column]} at row {y + row}, column {column}, '
            f'but there are {len(classes)} classes; name it in `ignored` if '
            'it is none',
        )


def _pieces(
    values: np.ndarray, valid: np.ndarray, y: int
) -> Iterator[tuple[int, Any]]:
    """Yield class ids and polygons, in pixels, of a stripe (h, w) at row y."""
    shapely = _import('shapely')
    if values.dtype.name not in _TYPES:
        values = values.astype(np.int32)
    for geometry, value in rasterio.features.shapes(
        np.ascontiguousarray(values),
        valid,
        connectivity=4,
        transform=Affine.translation(0, y),
    ):
        outer, *holes = geometry['coordinates']
        yield int(value), shapely.Polygon(outer, holes)


def _edge(stripe: Sequence[_Region], y: int, width: int) -> np.ndarray:
    """Tell which region each pixel along a rim of a stripe is in.

    Returns:
        np.ndarray: Indices (width,), -1 for none.
    """
    shapely = _import('shapely')
    index = np.full(width, -1)
    for i, region in enumerate(stripe):
        # Holes have no side in common with the rim.
        outer = region.pieces[0].exterior
        corners = shapely.get_coordinates(outer).astype(int)
        on_rim = (corners[:-1, 1] == y) & (corners[1:, 1] == y)
        for ends in zip(
            corners[:-1, 0][on_rim], corners[1:, 0][on_rim], strict=True
        ):
            index[min(ends) : max(ends)] = i
    return index


class _Writer(ABC):
    """Writes polygons in batches.

    Args:
        path (Path): The file to write.
        classes (Sequence[str]): Names of the classes.
        georef (GeoReference, optional): From pixels to coordinates.
    """

    def __init__(
        self,
        path: Path,
        classes: Sequence[str],
        georef: GeoReference | None,
    ) -> None:
        self.path, self.classes = path, classes
        self.crs = georef and georef.crs
        self.transform = georef.transform if georef else Affine.identity()
        self.count = 0
        self._batch: list[tuple[int, Any]] = []

    def add(self, class_id: int, polygon: Any) -> None:
        """Write a polygon, in pixels, sooner or later."""
        self._batch.append((class_id, polygon))
        self.count += 1
        if len(self._batch) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        """Write what has been gathered."""
        shapely = _import('shapely')
        ids = np.array([i for i, _ in self._batch], np.int32)
        polygons = np.array([p for _, p in self._batch], dtype=object)
        areas = shapely.area(polygons) * abs(self.transform.determinant)
        a, b, c, d, e, f = self.transform[:6]
        polygons = shapely.transform(
            polygons, lambda xy: xy @ [[a, d], [b, e]] + [c, f]
        )
        self._write(ids, polygons, areas)
        self._batch = []

    @abstractmethod
    def _write(
        self, ids: np.ndarray, polygons: np.ndarray, areas: np.ndarray
    ) -> None:
        """Write polygons (n,) in the map's coordinates."""

    def __enter__(self) -> '_Writer':
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None and (self._batch or not self.count):
            self._flush()


class _GeoPackage(_Writer):
    """Writes a layer ``classes`` of a GeoPackage."""

    def _write(
        self, ids: np.ndarray, polygons: np.ndarray, areas: np.ndarray
    ) -> None:
        names = np.array([self.classes[i] for i in ids], dtype=object)
        with warnings.catch_warnings():
            # A map without a CRS is not worth one.
            warnings.filterwarnings('ignore', "'crs' was not provided")
            try:
                _import('pyogrio').raw.write(
                    str(self.path),
                    _import('shapely').to_wkb(polygons),
                    field_data=[ids, names, areas],
                    fields=['class_id', 'class_name', 'area'],
                    layer='classes',
                    driver='GPKG',
                    geometry_type='Polygon',
                    crs=self.crs and self.crs.to_wkt(),
                    append=self.path.exists(),
                )
            # The base of pyogrio's own errors.
            except RuntimeError as error:
                raise OSError(str(error)) from error


class _GeoJSON(_Writer):
    """Writes a feature collection, a feature per line."""

    def __enter__(self) -> '_GeoJSON':
        self._file = open(self.path, 'w', encoding='utf-8')
        self._file.write('{"type": "FeatureCollection", "features": [')
        self._is_first = True
        return self

    def _write(
        self, ids: np.ndarray, polygons: np.ndarray, areas: np.ndarray
    ) -> None:
        geometries = [p.__geo_interface__ for p in polygons]
        if self.crs is not None and geometries:
            try:
                geometries = rasterio.warp.transform_geom(
                    self.crs, 'EPSG:4326', geometries, precision=_DECIMALS
                )
            except (*GDAL_ERRORS, CRSError) as error:
                raise OSError(
                    f'no way from {self.crs.to_string()} to degrees, which '
                    'GeoJSON has; use a name in .gpkg, which keeps the CRS'
                ) from error
        for class_id, geometry, area in zip(
            ids.tolist(), geometries, areas.tolist(), strict=True
        ):
            feature = dict(
                type='Feature',
                properties=dict(
                    class_id=class_id,
                    class_name=self.classes[class_id],
                    area=area,
                ),
                geometry=_wound(geometry),
            )
            self._file.write('\n' if self._is_first else ',\n')
            self._file.write(json.dumps(feature, ensure_ascii=False))
            self._is_first = False

    def __exit__(self, kind: type | None, *_: object) -> None:
        with self._file:
            super().__exit__(kind)
            self._file.write('\n]}\n')


def _wound(geometry: dict) -> dict:
    """Wind rings as RFC 7946 wants: outer ones to the left, holes right."""
    shapely = _import('shapely')

    def wind(rings: Sequence) -> list:
        return [
            ring
            if shapely.is_ccw(shapely.LinearRing(ring)) == (i == 0)
            else ring[::-1]
            for i, ring in enumerate(rings)
        ]

    rings = geometry['coordinates']
    # What crosses the date line has been cut.
    if geometry['type'] == 'Polygon':
        return dict(geometry, coordinates=wind(rings))
    return dict(geometry, coordinates=[wind(part) for part in rings])


def _import(package: str) -> ModuleType:
    """Import a package that only polygons need."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f'polygons need {package}: '
            'pip install "mmsegmentation-uhr[vector]"'
        ) from error
