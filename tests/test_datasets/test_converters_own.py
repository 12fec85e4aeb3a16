"""Converting your own images, with polygons and rasters as labels."""

import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.warp
import shapely
from rasterio.crs import CRS

from mmseg_uhr.datasets import UHRDataset
from mmseg_uhr.datasets.converters import (
    ConversionError,
    Polygons,
    convert_own,
)
from mmseg_uhr.rasters import (
    GeoReference,
    RasterError,
    open_raster,
    write_geotiff,
)

TOOL = (
    Path(__file__).resolve().parents[2] / 'tools/dataset_converters/convert.py'
)
UTM = CRS.from_epsg(32633)
CLASSES = {'water': 'W', 'forest': 'F'}


def georef(column=0, row=0, crs=UTM):
    """Pixels of 1 m; the origin is so many pixels off."""
    return GeoReference(
        crs, rasterio.Affine(1, 0, 500000 + column, 0, -1, 5200000 - row)
    )


def box(x, y, w, h):
    """A rectangle of whole pixels of the grid at (0, 0)."""
    return shapely.box(
        500000 + x, 5200000 - y - h, 500000 + x + w, 5200000 - y
    )


def write_vector(path, shapes, values, crs='EPSG:32633', **options):
    """Write features with the field ``kind``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyogrio.raw.write(
        str(path),
        shapely.to_wkb(np.array(shapes, object)),
        field_data=[np.array(values, object)],
        fields=['kind'],
        crs=crs,
        geometry_type=options.pop('geometry_type', 'Polygon'),
        **options,
    )
    return path


@pytest.fixture
def images(tmp_path):
    """Two images side by side, train and val, of 60 x 40 pixels each."""
    folder = tmp_path / 'images'
    for i, split in enumerate(('train', 'val')):
        pixels = np.full((40, 60, 3), i + 1, np.uint8)
        write_geotiff(folder / split / f'{i}.tif', pixels, georef(60 * i))
    return folder


def labels_of(out, name):
    return open_raster(out / 'ann_dir' / f'{name}.tif').read()[..., 0]


# Across both images; an overlap, a hole, and a feature far away.
SHAPES = [
    box(50, 5, 30, 20),
    box(10, 10, 20, 20).difference(box(15, 15, 5, 5)),
    box(25, 0, 10, 40),
    box(5000, 0, 10, 10),
]
VALUES = ['W', 'F', 'W', 'F']


def expected(outside=255):
    """The labels of both images, drawn by hand."""
    both = np.full((40, 120), outside, np.uint8)
    both[5:25, 50:80] = 0
    both[10:30, 10:30] = 1
    both[15:20, 15:20] = outside
    both[:, 25:35] = 0
    return both[:, :60], both[:, 60:]


@pytest.mark.parametrize('suffix', ['gpkg', 'geojson', 'shp'])
def test_polygons_become_labels(suffix, images, tmp_path):
    crs, shapes = 'EPSG:32633', SHAPES
    if suffix == 'geojson':
        # In degrees, far from any pixel's centre.
        crs = 'EPSG:4326'
        shapes = [
            shapely.geometry.shape(
                rasterio.warp.transform_geom(UTM, crs, s.__geo_interface__)
            )
            for s in SHAPES
        ]
    path = write_vector(tmp_path / f'labels.{suffix}', shapes, VALUES, crs)
    out = tmp_path / 'out'
    report = convert_own(images, path, CLASSES, out, field='kind')
    train, val = expected()
    np.testing.assert_array_equal(labels_of(out, 'train/0'), train)
    np.testing.assert_array_equal(labels_of(out, 'val/1'), val)
    assert report['splits']['val']['pixels']['water'] == 20 * 20
    # The grid is that of the image, which is linked.
    labels = open_raster(out / 'ann_dir/val/1.tif')
    assert labels.georef == open_raster(images / 'val/1.tif').georef
    assert os.path.samefile(out / 'img_dir/val/1.tif', images / 'val/1.tif')
    dataset = UHRDataset(
        data_root=str(out),
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        metainfo=json.loads((out / 'report.json').read_text())['metainfo'],
    )
    assert len(dataset) == 1
    assert dataset.metainfo['classes'] == ['water', 'forest']


def test_pixels_in_no_polygon_may_be_a_class(images, tmp_path):
    path = write_vector(tmp_path / 'labels.gpkg', SHAPES, VALUES)
    out = tmp_path / 'out'
    convert_own(
        images,
        path,
        {'land': 'L', 'water': 'W', 'forest': 'F'},
        out,
        field='kind',
        outside='land',
    )
    train, _ = expected()
    train = np.where(train == 255, 0, train + 1)
    np.testing.assert_array_equal(labels_of(out, 'train/0'), train)


def test_stripes_are_drawn_as_one(tmp_path):
    """More rows than a stripe has; shapes with oblique sides."""
    rng = np.random.default_rng(0)
    height, width = 3000, 700
    write_geotiff(
        tmp_path / 'a.tif', np.zeros((height, width, 3), np.uint8), georef()
    )
    shapes = [
        shapely.Point(500000 + x, 5200000 - y).buffer(r)
        for x, y, r in rng.uniform((0, 0, 5), (700, 3000, 400), (40, 3))
    ]
    values = rng.choice(['W', 'F'], 40).tolist()
    path = write_vector(tmp_path / 'labels.gpkg', shapes, values)
    table = (('W', 0), ('F', 1))
    reader = Polygons(path, 'kind', table).open(tmp_path / 'a.tif')
    parts = list(reader.read())
    assert len(parts) > 1
    whole = rasterio.features.rasterize(
        [(s, 'WF'.index(v)) for s, v in zip(shapes, values)],
        (height, width),
        fill=255,
        transform=georef().transform,
        dtype='uint8',
    )
    drawn = np.concatenate([ids for _, ids in parts])
    assert [y for y, _ in parts] == sorted(y for y, _ in parts)
    np.testing.assert_array_equal(drawn, whole)


def test_images_may_be_in_another_projection(tmp_path):
    crs = CRS.from_epsg(32634)
    transform, width, height = rasterio.warp.calculate_default_transform(
        UTM,
        crs,
        60,
        40,
        *rasterio.transform.array_bounds(40, 60, georef().transform),
    )
    write_geotiff(
        tmp_path / 'images/a.tif',
        np.zeros((height, width, 3), np.uint8),
        GeoReference(crs, transform),
    )
    path = write_vector(tmp_path / 'labels.gpkg', [box(0, 0, 30, 40)], ['W'])
    out = tmp_path / 'out'
    convert_own(tmp_path / 'images', path, CLASSES, out, field='kind')
    ids = labels_of(out, 'a')
    # Half of the image, turned by the other projection.
    assert abs((ids == 0).sum() - 30 * 40) < 0.05 * 30 * 40
    middle = height // 2
    assert ids[middle, 15] == 0
    assert ids[middle, width - 15] == 255


def test_mosaic_in_another_projection_and_resolution(images, tmp_path):
    """Each pixel takes the value that the mosaic has at its centre."""
    rng = np.random.default_rng(0)
    values = rng.integers(1, 3, (20, 40), np.uint8)
    mosaic = GeoReference(UTM, rasterio.Affine(2, 0, 500000, 0, -2, 5200000))
    write_geotiff(tmp_path / 'mosaic.tif', values, mosaic)
    out = tmp_path / 'out'
    convert_own(images, tmp_path / 'mosaic.tif', {'a': 1, 'b': 2}, out)
    fine = np.repeat(np.repeat(values, 2, 0), 2, 1) - 1
    np.testing.assert_array_equal(labels_of(out, 'train/0'), fine[:, :60])
    # The mosaic ends in the second image.
    val = labels_of(out, 'val/1')
    np.testing.assert_array_equal(val[:, :20], fine[:, 60:])
    assert (val[:, 20:] == 255).all()


def test_several_mosaics(images, tmp_path):
    folder = tmp_path / 'mosaics'
    write_geotiff(folder / 'x.tif', np.full((40, 70), 7, np.uint8), georef())
    write_geotiff(folder / 'y.tif', np.full((40, 70), 9, np.uint8), georef(50))
    out = tmp_path / 'out'
    convert_own(images, folder, {'seven': 7, 'nine': 9}, out)
    train = labels_of(out, 'train/0')
    assert (train[:, :50] == 0).all()
    assert (train[:, 50:] == 1).all()
    assert (labels_of(out, 'val/1') == 1).all()
    with pytest.raises(ConversionError, match='not name: 9'):
        convert_own(images, folder, {'seven': 7}, tmp_path / 'strict')
    convert_own(images, folder, {'seven': 7}, tmp_path / 'skip', strict=False)
    assert (labels_of(tmp_path / 'skip', 'val/1') == 255).all()


def test_rasters_of_the_same_names(images, tmp_path):
    folder = tmp_path / 'labels'
    ids = np.random.default_rng(0).choice(
        np.array([3, 5, 255], np.uint8), (40, 60)
    )
    for name in ('train/0', 'val/1'):
        write_geotiff(folder / f'{name}.tif', ids)
    out = tmp_path / 'out'
    convert_own(images, folder, {'three': 3, 'five': 5}, out)
    table = {3: 0, 5: 1, 255: 255}
    np.testing.assert_array_equal(
        labels_of(out, 'val/1'), np.vectorize(table.get)(ids)
    )
    convert_own(
        *(images, folder, {'three': 3, 'five': 5}, tmp_path / 'all'),
        outside='five',
    )
    np.testing.assert_array_equal(
        labels_of(tmp_path / 'all', 'val/1'), (ids != 3).astype(np.uint8)
    )
    write_geotiff(folder / 'val/1.tif', np.full((40, 60), 4, np.uint8))
    with pytest.raises(ConversionError, match='hold none of 3, 5, 255.*: 4'):
        convert_own(images, folder, {'three': 3, 'five': 5}, out)
    (folder / 'val/1.tif').unlink()
    with pytest.raises(ConversionError, match='1 images without a label'):
        convert_own(images, folder, {'three': 3, 'five': 5}, out)


def test_labels_are_not_overwritten(images, tmp_path):
    folder = tmp_path / 'ann_dir'
    for name in ('train/0', 'val/1'):
        write_geotiff(folder / f'{name}.tif', np.full((40, 60), 3, np.uint8))
    with pytest.raises(ConversionError, match='0.tif: .* be overwritten; .*'):
        convert_own(images, folder, {'other': 4, 'three': 3}, tmp_path)
    for name in ('train/0', 'val/1'):
        assert (labels_of(tmp_path, name) == 3).all()


def test_lists_choose_the_splits(images, tmp_path):
    path = write_vector(tmp_path / 'labels.gpkg', SHAPES, VALUES)
    lists = tmp_path / 'lists'
    lists.mkdir()
    (lists / 'test.txt').write_text('val/1\n')
    out = tmp_path / 'out'
    report = convert_own(
        images, path, CLASSES, out, field='kind', split_lists=lists
    )
    assert list(report['splits']) == ['test']
    assert (out / 'img_dir/val/1.tif').is_file()
    assert not (out / 'img_dir/train').exists()
    (lists / 'test.txt').write_text('val/1\nghost\n')
    with pytest.raises(ConversionError, match='without files: ghost'):
        convert_own(
            images, path, CLASSES, out, field='kind', split_lists=lists
        )


def test_tool(images, tmp_path, capsys, monkeypatch):
    path = write_vector(tmp_path / 'labels.gpkg', SHAPES, VALUES)
    monkeypatch.setattr(
        sys,
        'argv',
        [str(TOOL), 'own', '--images', str(images), '--labels', str(path)]
        + ['--classes', 'water=W,forest=F', '--field', 'kind', '--jobs', '2']
        + ['--out', str(tmp_path / 'out')],
    )
    runpy.run_path(str(TOOL), run_name='__main__')
    assert 'train: 1 scenes, val: 1 scenes' in capsys.readouterr().out
    train, _ = expected()
    np.testing.assert_array_equal(
        labels_of(tmp_path / 'out', 'train/0'), train
    )


def test_wrong_vector_files(images, tmp_path):
    out = tmp_path / 'out'
    path = write_vector(tmp_path / 'labels.gpkg', SHAPES, VALUES)

    def refuse(said, labels=path, classes=CLASSES, error=RasterError, **kw):
        kw.setdefault('field', 'kind')
        with pytest.raises(error, match=said):
            convert_own(images, labels, classes, out, **kw)

    refuse(r"has no field 'type', but \['kind'\]", field='type')
    refuse("has no layer 'x', but", layer='x')
    refuse('--field', field=None, error=ConversionError)
    refuse(
        r"does not name: 'F' \(1 times\)",
        classes={'water': 'W'},
        error=ConversionError,
    )
    refuse('expected one of the', outside='land', error=ConversionError)
    refuse(
        'a value of its own', classes={'a': 1, 'b': '1'}, error=ConversionError
    )
    refuse('no such file', labels=tmp_path / 'no.gpkg', error=ConversionError)
    broken = tmp_path / 'broken.gpkg'
    broken.write_bytes(b'nothing')
    refuse('cannot be read as a vector file', labels=broken)
    lines = write_vector(
        tmp_path / 'lines.gpkg',
        [SHAPES[0].exterior],
        ['W'],
        geometry_type='LineString',
    )
    refuse("'LineString'|'LinearRing'", labels=lines, error=ConversionError)
    two = write_vector(tmp_path / 'two.gpkg', SHAPES, VALUES, layer='a')
    write_vector(two, SHAPES, VALUES, layer='b', append=True)
    refuse(r"has the layers \['a', 'b'\]; choose with --layer", labels=two)
    convert_own(images, two, CLASSES, out, field='kind', layer='b')
    # Features of other values can be left out.
    convert_own(images, path, {'water': 'W'}, out, field='kind', strict=False)
    assert set(np.unique(labels_of(out, 'train/0'))) == {0, 255}


@pytest.mark.parametrize(
    'place', [None, GeoReference(None, georef().transform)]
)
def test_images_without_a_place(place, tmp_path):
    path = write_vector(tmp_path / 'labels.gpkg', SHAPES, VALUES)
    images = tmp_path / 'images'
    write_geotiff(images / 'a.tif', np.zeros((8, 8, 3), np.uint8), place)
    for labels in (path, None):
        if labels is None:
            labels = tmp_path / 'mosaic.tif'
            write_geotiff(labels, np.ones((8, 8), np.uint8), georef())
        with pytest.raises(ConversionError, match='a.tif.*has no CRS'):
            convert_own(
                images, labels, {'a': 1}, tmp_path / 'out', field='kind'
            )


def test_folders_without_images(tmp_path):
    (tmp_path / 'images').mkdir()
    for name in ('images', 'absent'):
        with pytest.raises(ConversionError, match='no (such|images)'):
            convert_own(tmp_path / name, tmp_path, {'a': 1}, tmp_path / 'out')


def test_package_that_is_missing_is_named(images, tmp_path, monkeypatch):
    path = write_vector(tmp_path / 'labels.gpkg', SHAPES, VALUES)
    monkeypatch.setitem(sys.modules, 'pyogrio', None)
    with pytest.raises(ImportError, match=r'mmsegmentation-uhr\[vector\]'):
        convert_own(images, path, CLASSES, tmp_path / 'out', field='kind')
