import json
import sys

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize

from mmseg_uhr.rasters import GeoReference, RasterError, write_geotiff
from mmseg_uhr.rasters.polygons import write_polygons

shapely = pytest.importorskip('shapely')
pyogrio = pytest.importorskip('pyogrio')

CLASSES = ('field', 'wood', 'water')
UTM = GeoReference(
    rasterio.crs.CRS.from_epsg(32633), Affine(2, 0, 500000, 0, -2, 5300000)
)


def read_gpkg(path):
    """Return meta, ids, names, areas and polygons of a GeoPackage."""
    meta, _, wkb, fields = pyogrio.raw.read(path)
    found = dict(zip(meta['fields'], fields, strict=True))
    return (
        meta,
        found['class_id'],
        found['class_name'],
        found['area'],
        shapely.from_wkb(wkb),
    )


def drawn(polygons, ids, shape, transform=None):
    """Return the label map that polygons make, 255 where there are none."""
    if not len(polygons):
        return np.full(shape, 255, np.uint8)
    return rasterize(
        zip(polygons, map(int, ids), strict=True),
        shape,
        fill=255,
        transform=transform or Affine.identity(),
        dtype='uint8',
    )


def count_regions(labels, classes):
    """Count regions that are connected by sides, by other means."""
    return sum(
        cv2.connectedComponents((labels == i).astype(np.uint8), None, 4)[0] - 1
        for i in range(classes)
    )


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 14), st.integers(1, 9)),
        elements=st.sampled_from([0, 1, 2, 255]),
    ),
    st.integers(1, 6),
)
def test_polygons_are_the_map(tmp_path_factory, labels, stripe_rows):
    path = tmp_path_factory.mktemp('polygons') / 'map.gpkg'
    count = write_polygons(
        labels, path, CLASSES, ignored=[255], stripe_rows=stripe_rows
    )
    _, ids, _, areas, polygons = read_gpkg(path)
    assert count == len(ids) == count_regions(labels, 3)
    assert all(polygon.geom_type == 'Polygon' for polygon in polygons)
    assert all(polygon.is_valid for polygon in polygons)
    assert areas.sum() == (labels != 255).sum()
    np.testing.assert_array_equal(drawn(polygons, ids, labels.shape), labels)


@pytest.mark.parametrize('stripe_rows', [1, 7, 100])
def test_a_region_in_many_stripes_is_one_polygon(tmp_path, stripe_rows):
    labels = np.ones((40, 30), np.uint8)
    # A ring, whose inside is another region, and two towers that meet at
    # their feet only.
    labels[5:25, 5:25] = 0
    labels[9:21, 9:21] = 2
    labels[26:38, [3, 9]] = 2
    labels[38, 3:10] = 2
    path = tmp_path / 'map.gpkg'
    assert write_polygons(labels, path, CLASSES, stripe_rows=stripe_rows) == 4
    _, ids, names, areas, polygons = read_gpkg(path)
    assert sorted(ids) == [0, 1, 2, 2]
    assert set(names) == set(CLASSES)
    ring = polygons[list(ids).index(0)]
    assert len(ring.interiors) == 1
    assert ring.area == areas[list(ids).index(0)] == 20 * 20 - 12 * 12
    # No corners are left where stripes met.
    assert sorted(len(shapely.get_coordinates(p)) for p in polygons) == sorted(
        [10, 19, 5, 9]
    )


def test_a_geopackage_keeps_the_crs(tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg_uhr.rasters.polygons._BATCH', 10)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (30, 20), np.uint8)
    write_geotiff(tmp_path / 'map.tif', labels, UTM)
    path = tmp_path / 'new' / 'map.gpkg'
    rows = []
    count = write_polygons(
        tmp_path / 'map.tif',
        path,
        CLASSES,
        progress=lambda done, total: rows.append((done, total)),
        stripe_rows=12,
    )
    meta, ids, _, areas, polygons = read_gpkg(path)
    assert count == len(ids) == count_regions(labels, 3) > 10
    assert rasterio.crs.CRS.from_user_input(meta['crs']) == UTM.crs
    assert areas.sum() == labels.size * 4
    found = drawn(polygons, ids, labels.shape, UTM.transform)
    np.testing.assert_array_equal(found, labels)
    assert rows == [(12, 30), (24, 30), (30, 30)]
    assert [p.name for p in path.parent.iterdir()] == ['map.gpkg']


def test_geojson_has_degrees(tmp_path):
    labels = np.zeros((50, 40), np.uint8)
    labels[10:20, 10:20] = 1
    write_geotiff(tmp_path / 'map.tif', labels, UTM)
    path = tmp_path / 'map.geojson'
    count = write_polygons(tmp_path / 'map.tif', path, CLASSES, stripe_rows=16)
    collection = json.loads(path.read_text())
    assert collection['type'] == 'FeatureCollection'
    features = {
        f['properties']['class_name']: f for f in collection['features']
    }
    assert count == len(collection['features']) == 2
    assert features['wood']['properties'] == dict(
        class_id=1, class_name='wood', area=400.0
    )
    meta, *_ = pyogrio.raw.read(path)
    assert rasterio.crs.CRS.from_user_input(meta['crs']).to_epsg() == 4326
    west, south, east, north = shapely.geometry.shape(
        features['wood']['geometry']
    ).bounds
    assert 15 < west < east < 15.001
    assert 47.8 < south < north < 47.9
    # Outer rings to the left, holes to the right.
    outer, hole = features['field']['geometry']['coordinates']
    assert shapely.is_ccw(shapely.LinearRing(outer))
    assert not shapely.is_ccw(shapely.LinearRing(hole))


def test_geojson_without_a_crs_has_pixels(tmp_path):
    path = tmp_path / 'map.geojson'
    write_polygons(np.array([[0, 0], [1, 0]]), path, CLASSES)
    features = json.loads(path.read_text())['features']
    corner = [f for f in features if f['properties']['class_id'] == 1]
    assert shapely.geometry.shape(corner[0]['geometry']).bounds == (0, 1, 1, 2)


def test_a_crs_of_no_place_on_the_earth(tmp_path):
    crs = rasterio.crs.CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    labels = np.eye(4, dtype=np.uint8)
    georef = GeoReference(crs, Affine(0.5, 0, 10, 0, -0.5, 20))
    write_geotiff(tmp_path / 'map.tif', labels, georef)
    with pytest.raises(RasterError, match=r'map\.geojson: .*name in \.gpkg'):
        write_polygons(
            tmp_path / 'map.tif', tmp_path / 'map.geojson', ['a', 'b']
        )
    assert [path.name for path in tmp_path.iterdir()] == ['map.tif']


def test_what_crosses_the_date_line_is_cut(tmp_path):
    georef = GeoReference(
        rasterio.crs.CRS.from_epsg(3832),
        Affine(1000, 0, 3339584 - 20000, 0, -1000, 0),
    )
    write_geotiff(tmp_path / 'map.tif', np.zeros((40, 40), np.uint8), georef)
    path = tmp_path / 'map.geojson'
    write_polygons(tmp_path / 'map.tif', path, CLASSES)
    (feature,) = json.loads(path.read_text())['features']
    assert feature['geometry']['type'] == 'MultiPolygon'
    for (outer,) in feature['geometry']['coordinates']:
        assert shapely.is_ccw(shapely.LinearRing(outer))


def test_pixels_without_data_and_small_regions_are_left_out(tmp_path):
    labels = np.zeros((20, 20), np.uint8)
    labels[:5] = 2
    labels[8:10, 8:10] = 1
    with rasterio.open(
        tmp_path / 'map.tif',
        'w',
        driver='GTiff',
        height=20,
        width=20,
        count=1,
        dtype='uint8',
        nodata=2,
        crs=UTM.crs,
        transform=UTM.transform,
    ) as file:
        file.write(labels, 1)
    path = tmp_path / 'map.gpkg'
    write_polygons(tmp_path / 'map.tif', path, CLASSES, min_pixels=4)
    assert sorted(read_gpkg(path)[1]) == [0, 1]
    write_polygons(tmp_path / 'map.tif', path, CLASSES, min_pixels=5)
    assert sorted(read_gpkg(path)[1]) == [0]


@pytest.mark.parametrize('suffix', ['.gpkg', '.geojson'])
def test_a_map_of_nothing_makes_an_empty_file(tmp_path, suffix):
    path = tmp_path / f'map{suffix}'
    labels = np.full((8, 8), 255, np.uint8)
    assert write_polygons(labels, path, CLASSES, ignored=[255]) == 0
    assert pyogrio.read_info(path)['features'] == 0


@pytest.mark.parametrize('suffix', ['.gpkg', '.geojson'])
def test_a_strange_value_leaves_no_file(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr('mmseg_uhr.rasters.polygons._BATCH', 1)
    labels = np.zeros((8, 8), np.uint8)
    labels[6, 2] = 7
    with pytest.raises(RasterError, match='value 7 at row 6, column 2.*3 cl'):
        write_polygons(
            labels, tmp_path / f'map{suffix}', CLASSES, stripe_rows=1
        )
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_said_first(tmp_path, monkeypatch):
    labels = np.zeros((8, 8), np.uint8)
    with pytest.raises(RasterError, match=r"\.gpkg or \.geojson.*'\.shp'"):
        write_polygons(labels, tmp_path / 'map.shp', CLASSES)
    with pytest.raises(RasterError, match='one band of integers'):
        write_polygons(labels / 2, tmp_path / 'map.gpkg', CLASSES)
    (tmp_path / 'file').touch()
    with pytest.raises(RasterError, match='cannot be written'):
        write_polygons(labels, tmp_path / 'file' / 'map.gpkg', CLASSES)
    monkeypatch.setitem(sys.modules, 'pyogrio', None)
    with pytest.raises(ImportError, match=r'mmsegmentation-uhr\[vector\]'):
        write_polygons(labels, tmp_path / 'map.gpkg', CLASSES)
