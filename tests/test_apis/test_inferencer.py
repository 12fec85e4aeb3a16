"""Scenes in, maps out, from Python."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from mmengine.config import Config, ConfigDict
from rasterio.crs import CRS

from mmseg_uhr.apis import ScenesError, UHRInferencer
from mmseg_uhr.apis.scenes import find_scenes
from mmseg_uhr.rasters import (
    ArrayRaster,
    GeoReference,
    RasterError,
    open_raster,
    write_geotiff,
)

GEOREF = GeoReference(CRS.from_epsg(32632), Affine(0.5, 0, 7e5, 0, -0.5, 5e6))


@pytest.fixture(scope='module')
def checkpoint(trained):
    return trained / 'iter_40.pth'


@pytest.fixture(scope='module')
def inferencer(tiny_config, checkpoint):
    inferencer = UHRInferencer(tiny_config, checkpoint, 'cpu')

    def quiet(*args, **kwargs):
        return inferencer(*args, **{'progress': False, **kwargs})

    quiet.itself, quiet.model = inferencer, inferencer.model
    return quiet


@pytest.fixture
def scene(tmp_path, scenes):
    """A scene with a georeference."""
    image = open_raster(scenes / 'images' / 'a.tif').read()
    write_geotiff(tmp_path / 'scene.tif', image, GEOREF)
    return tmp_path / 'scene.tif'


@pytest.fixture
def expected(inferencer, scene):
    """The label map of the scene by the segmentor itself."""
    raster = open_raster(scene, (3, 2, 1))
    (sample,) = inferencer.model.test_step(dict(inputs=[raster]))
    return sample.pred_sem_seg.data[0].numpy()


def labels_of(path):
    return open_raster(path).read()[..., 0]


def recorder(calls):
    """A progress callback that keeps what it is told."""
    return lambda done, total: calls.append((done, total))


def test_a_map_on_disk(inferencer, scene, expected, tmp_path):
    out, overlay = tmp_path / 'new' / 'map.tif', tmp_path / 'map.png'
    result = inferencer(scene, out, overlay=overlay)
    assert (result.image, result.out) == (str(scene), out)
    assert result.megapixels == result.predicted == 96 * 128 / 1e6
    assert result.seconds_per_megapixel > 0
    assert result.labels is None
    assert not result.skipped
    with rasterio.open(out) as file, rasterio.open(scene) as source:
        assert file.shape == source.shape
        assert file.crs == source.crs
        assert file.transform == source.transform
        assert file.nodata is None
        assert file.colormap(1)[1] == (60, 200, 60, 255)
        assert json.loads(file.tags()['CLASSES']) == ['red', 'green', 'blue']
        np.testing.assert_array_equal(file.read(1), expected)
    assert cv2.imread(str(overlay)).shape == (96, 128, 3)
    assert [p.name for p in out.parent.iterdir()] == ['map.tif']


def test_maps_in_memory(inferencer, scene, expected):
    pixels = open_raster(scene, (3, 2, 1)).read()
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    for source in (scene, str(scene), pixels, tensor, ArrayRaster(pixels)):
        np.testing.assert_array_equal(inferencer(source).labels, expected)
    results = inferencer([pixels, scene])
    assert [result.image for result in results] == ['<array>', str(scene)]
    for result in results:
        np.testing.assert_array_equal(result.labels, expected)
    assert len(inferencer([tensor])) == 1


def test_arrays_on_disk(inferencer, scene, expected, tmp_path):
    pixels = open_raster(scene, (3, 2, 1)).read()
    inferencer(pixels, tmp_path / 'map.tif')
    inferencer([pixels, pixels], tmp_path / 'maps')
    names = ['map.tif', 'maps/array-0.tif', 'maps/array-1.tif']
    for name in names:
        np.testing.assert_array_equal(labels_of(tmp_path / name), expected)
    results = inferencer(
        [pixels, 255 - pixels], tmp_path / 'maps', resume=True
    )
    assert [result.skipped for result in results] == [True, False]


def test_probabilities_and_confidence(inferencer, scene, tmp_path):
    """One window holds the scene, so they are the softmax of its logits."""
    model = inferencer.model
    pixels = open_raster(scene, (3, 2, 1)).read_tensor()
    settings = dict(model.test_cfg)
    model.test_cfg.update(crop_size=(96, 128), stride=(96, 128))
    try:
        inferencer(
            *(scene, tmp_path / 'map.tif'),
            probabilities=['blue', '0'],
            confidence=True,
        )
        memory = inferencer(scene, probabilities=[2], confidence=True)
    finally:
        model.test_cfg.update(settings)
    inputs = model.data_preprocessor(dict(inputs=[pixels]))['inputs']
    with torch.no_grad():
        logits = model.encode_decode(inputs, [dict(img_shape=(96, 128))])[0]
    expected = (logits.softmax(0) * 255).round().byte().numpy()
    with rasterio.open(tmp_path / 'map.probabilities.tif') as file:
        assert file.descriptions == ('blue', 'red')
        assert file.crs == GEOREF.crs
        np.testing.assert_array_equal(file.read(), expected[[2, 0]])
    with rasterio.open(tmp_path / 'map.confidence.tif') as file:
        np.testing.assert_array_equal(file.read(1), expected.max(0))
    np.testing.assert_array_equal(memory.probabilities, expected[[2]])
    np.testing.assert_array_equal(memory.confidence, expected.max(0))
    with pytest.raises(ValueError, match="'sky'; there are red, green, blue"):
        inferencer(scene, probabilities=['sky'])


def test_other_formats(inferencer, scene, expected, tmp_path):
    inferencer(scene, tmp_path / 'map.png')
    np.testing.assert_array_equal(labels_of(tmp_path / 'map.png'), expected)
    inferencer(scene, tmp_path / 'map.tif', cog=True, confidence=True)
    np.testing.assert_array_equal(labels_of(tmp_path / 'map.tif'), expected)
    for name in ('map.tif', 'map.confidence.tif'):
        with rasterio.open(tmp_path / name) as file:
            assert file.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
    for name, cog in (('map.png', False), ('map.tif', True)):
        again = inferencer(
            scene, tmp_path / name, cog=cog, confidence=cog, resume=True
        )
        assert again.skipped
    with pytest.raises(ValueError, match=r'map\.jpg: maps are written as'):
        inferencer(scene, tmp_path / 'map.jpg')


def test_polygons(inferencer, scene, tmp_path):
    pytest.importorskip('shapely')
    out, path = tmp_path / 'map.tif', tmp_path / 'map.geojson'
    inferencer(scene, out, polygons=path)
    names = {
        feature['properties']['class_name']
        for feature in json.loads(path.read_text())['features']
    }
    assert names == {'red', 'green', 'blue'}
    # Made of the map that is there.
    path.unlink()
    assert inferencer(scene, out, polygons=path, resume=True).skipped
    assert path.exists()


def test_pixels_without_data(inferencer, scene, expected, tmp_path):
    image = open_raster(scene).read()
    path = tmp_path / 'rim.tif'
    profile = dict(driver='GTiff', width=128, height=96, count=3, nodata=0)
    profile.update(GEOREF._asdict(), dtype='uint8')
    image = np.maximum(image, 1)
    image[:40, :50] = 0
    with rasterio.open(path, 'w', **profile) as file:
        file.write(image.transpose(2, 0, 1))
    inferencer(path, tmp_path / 'map.tif', confidence=True)
    with rasterio.open(tmp_path / 'map.tif') as file:
        labels = file.read(1)
        assert file.nodata == 255
    assert (labels[:40, :50] == 255).all()
    assert (labels[40:] < 3).all()
    np.testing.assert_array_equal(labels[80:], expected[80:])
    assert (labels_of(tmp_path / 'map.confidence.tif')[:40, :50] == 0).all()


def test_a_folder_with_a_finished_scene(inferencer, scenes, tmp_path):
    folder, out = scenes / 'images', tmp_path / 'maps'
    inferencer(folder / 'b.tif', out / 'b.tif')
    before = (out / 'b.tif').stat().st_mtime_ns
    results = inferencer(folder, out, resume=True)
    assert [r.out.name for r in results] == ['a.tif', 'b.tif', 'c.tif']
    assert [r.skipped for r in results] == [False, True, False]
    assert [r.predicted > 0 for r in results] == [True, False, True]
    assert (out / 'b.tif').stat().st_mtime_ns == before
    # Without `resume` all are made again; so are those of another kind.
    options = dict(resume=True, confidence=True)
    for kwargs in ({}, options):
        results = inferencer(str(folder / '[ab].tif'), out, **kwargs)
        assert [r.skipped for r in results] == [False, False]
    images = tmp_path / 'scenes.txt'
    images.write_text(f'{folder / "a.tif"}\n\n{folder / "b.tif"}\n')
    results = inferencer(images, out, **options)
    assert [r.skipped for r in results] == [True, True]
    assert sorted(path.suffix for path in out.iterdir()) == ['.tif'] * 5


def test_a_folder_of_one_scene(inferencer, scene, tmp_path):
    (folder := tmp_path / 'scenes').mkdir()
    scene.rename(folder / 'x.tif')
    inferencer(folder, tmp_path / 'maps', overlay=tmp_path / 'overlays')
    assert os.listdir(tmp_path / 'maps') == ['x.tif']
    assert os.listdir(tmp_path / 'overlays') == ['x.png']


def test_names_that_only_gdal_knows(
    inferencer, scene, expected, tmp_path, monkeypatch
):
    addresses = ['https://example.org/a.tif', '/vsizip/b.zip/b.tif']
    listed = tmp_path / 'scenes.txt'
    listed.write_text('\n'.join(addresses))
    assert [found.name for found in find_scenes(listed)] == addresses
    result = inferencer(f'GTIFF_DIR:1:{scene}', tmp_path / 'maps')
    assert result.out == tmp_path / 'maps' / 'scene.tif'
    np.testing.assert_array_equal(labels_of(result.out), expected)
    # Folders and patterns may look alike.
    (folder := tmp_path / 'run:1').mkdir()
    scene.rename(folder / 'x.tif')
    monkeypatch.chdir(tmp_path)
    for source in ('run:1', 'run:1/*.tif'):
        (found,) = find_scenes(source, 'maps')
        assert found.out == Path('maps/x.tif')


def test_unreadable_scenes_among_others(inferencer, tmp_path, scenes):
    folder, out = tmp_path / 'scenes', tmp_path / 'maps'
    shutil.copytree(scenes / 'images', folder)
    for name in 'ac':
        data = bytearray((folder / f'{name}.tif').read_bytes())
        data[2000:-2000] = bytes(len(data) - 4000)
        (folder / f'{name}.tif').write_bytes(data)
    with pytest.raises(ScenesError, match=r'2 of 3 .*a\.tif: rows.*c\.tif: '):
        inferencer(folder, out)
    assert [path.name for path in out.iterdir()] == ['b.tif']
    (folder / 'c.tif').unlink()
    with pytest.raises(RasterError, match=r'a\.tif: rows'):
        inferencer(folder, out, resume=True)


def test_names_that_make_no_sense(
    inferencer, scene, scenes, tmp_path, tmp_path_factory
):
    pictures = tmp_path_factory.mktemp('pictures')
    for name in 'ab':
        cv2.imwrite(
            str(pictures / f'{name}.png'), np.zeros((96, 96, 3), np.uint8)
        )
    cases = [
        (dict(inputs=tmp_path / 'none.tif'), 'none.tif: no such file'),
        (dict(inputs=[scene, tmp_path / 'none.tif']), 'none.tif: no such'),
        (dict(inputs=tmp_path / '*.jp2'), 'no file fits this pattern'),
        (dict(inputs=[]), 'the list is empty'),
        (dict(inputs=scenes), 'the folder holds no scenes'),
        (dict(inputs=scene, out=scene), 'would replace this scene'),
        (
            dict(inputs=scene, out=tmp_path / 'maps', overlay=scene),
            r'scene\.tif: would replace a scene or a map',
        ),
        (
            dict(inputs=scene, out='m.png', overlay='m.png'),
            r'm\.png: would replace a scene or a map',
        ),
        (
            dict(
                inputs=[pictures / 'a.png', pictures / 'b.png'],
                out=tmp_path / 'maps',
                overlay=pictures,
            ),
            r'a\.png: would replace a scene or a map',
        ),
        (dict(inputs=scene, resume=True), 'need maps on disk'),
        (
            dict(inputs=[scene, scenes / 'images/a.tif'], out='a.tif'),
            'one map for 2 scenes',
        ),
        (
            dict(
                inputs=[scenes / 'images/a.tif', scenes / 'labels/a.tif'],
                out=tmp_path / 'maps',
            ),
            r'images/a.tif and .*labels/a.tif would both become',
        ),
        (
            dict(
                inputs=[scene, scenes / 'images/a.tif'],
                out=tmp_path / 'maps',
                overlay='over.png',
            ),
            'over.png: one file for 2 scenes; give a folder',
        ),
        (
            dict(inputs=scene, out='m.tif', resume=True, overwrite=True),
            'choose one',
        ),
    ]
    for kwargs, message in cases:
        with pytest.raises(ValueError, match=message):
            inferencer(**kwargs)
    assert [path.name for path in tmp_path.iterdir()] == ['scene.tif']


def test_progress(inferencer, scene, tmp_path, capfd):
    for out in (None, tmp_path / 'map.tif'):
        calls = []
        inferencer(scene, out, progress=recorder(calls))
        assert calls == sorted(calls)
        assert len(calls) > 2
        assert calls[-1] == (96 * 128, 96 * 128)
    assert capfd.readouterr().err == ''
    inferencer(scene, progress=True)
    assert 'scene.tif: 100%' in capfd.readouterr().err


def test_a_run_that_is_stopped(inferencer, tmp_path, scenes):
    """What is kept is told; a callback may stop a run, as Ctrl-C does."""
    tall = np.tile(open_raster(scenes / 'images/a.tif').read(), (8, 1, 1))
    write_geotiff(tmp_path / 'tall.tif', tall)
    out = tmp_path / 'map.tif'

    def stop(done, total):
        if done > 0.8 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inferencer(tmp_path / 'tall.tif', out, progress=stop)
    kept = inferencer.itself.kept
    assert kept == {tmp_path / 'map.tif.parts': 512 / 768}
    calls = []
    result = inferencer(
        tmp_path / 'tall.tif',
        out,
        resume=True,
        progress=recorder(calls),
    )
    assert result.predicted == pytest.approx(result.megapixels / 3)
    assert calls[0][0] > 512 * 128
    assert inferencer.itself.kept == {}
    whole = inferencer(tmp_path / 'tall.tif').labels
    np.testing.assert_array_equal(labels_of(out), whole)


def test_stock_configs_stream_unchanged(
    tiny_config, checkpoint, inferencer, scene, tmp_path
):
    cfg = Config.fromfile(tiny_config)
    cfg.model.type = 'EncoderDecoder'
    cfg.model.data_preprocessor.type = 'SegDataPreProcessor'
    cfg.model.test_cfg = dict(mode='whole')
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='PackSegInputs'),
    ]
    labels = UHRInferencer(cfg, checkpoint, 'cpu')(scene).labels
    # A window of 1024 pixels takes the scene whole, as the config says.
    raster = open_raster(scene, (3, 2, 1))
    model = inferencer.model
    settings = model.test_cfg
    model.test_cfg = ConfigDict(mode='whole')
    try:
        with torch.no_grad():
            (sample,) = model.test_step(dict(inputs=[raster]))
    finally:
        model.test_cfg = settings
    np.testing.assert_array_equal(labels, sample.pred_sem_seg.data[0])


def test_bands_of_other_images(inferencer, scene, expected, tmp_path):
    image = open_raster(scene).read()
    four = np.concatenate([image[..., :1] * 0, image], -1)
    write_geotiff(tmp_path / 'four.tif', four)
    with pytest.raises(RasterError, match=r'four\.tif: has 4 band.*--bands'):
        inferencer(tmp_path / 'four.tif', tmp_path / 'map.tif')
    assert not list(tmp_path.glob('map*'))
    with pytest.raises(RasterError, match='<array>: has 4 band'):
        inferencer(four)
    found = inferencer(tmp_path / 'four.tif', bands=(2, 3, 4))
    np.testing.assert_array_equal(found.labels, expected)


def test_a_corrupt_scene_leaves_nothing(inferencer, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
    path = tmp_path / 'scene.tif'
    write_geotiff(path, noise)
    data = bytearray(path.read_bytes())
    data[4000:] = bytes(len(data) - 4000)
    path.write_bytes(data)
    with pytest.raises(RasterError, match=r'scene\.tif: '):
        inferencer(path, tmp_path / 'map.tif')
    assert os.listdir(tmp_path) == ['scene.tif']


def test_a_budget(tiny_config, checkpoint, scene, expected, tmp_path):
    """It changes batches before anything that results depend on."""
    inferencer = UHRInferencer(tiny_config, checkpoint, 'cpu', budget='1GiB')
    inferencer(scene, tmp_path / 'map.tif', progress=False)
    np.testing.assert_array_equal(labels_of(tmp_path / 'map.tif'), expected)
