import json

import cv2
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from mmengine.config import Config, ConfigDict
from rasterio.crs import CRS

from mmseg_uhr.apis import init_segmentor, segment
from mmseg_uhr.rasters import (
    ArrayRaster,
    GeoReference,
    RasterError,
    open_raster,
    write_geotiff,
)


@pytest.fixture
def checkpoint(trained):
    return trained / 'iter_40.pth'


@pytest.fixture
def scene(tmp_path, scenes):
    """A labelled scene with a georeference, and its class ids."""
    image = open_raster(scenes / 'images' / 'a.tif').read()
    georef = GeoReference(
        CRS.from_epsg(32632), Affine(0.5, 0, 7e5, 0, -0.5, 5e6)
    )
    write_geotiff(tmp_path / 'scene.tif', image, georef)
    return tmp_path / 'scene.tif'


def test_a_map_on_disk(tiny_config, checkpoint, scene, tmp_path, capsys):
    model = init_segmentor(tiny_config, checkpoint, 'cpu')
    out, overlay = tmp_path / 'map.tif', tmp_path / 'map.png'
    result = segment(model, scene, out, overlay, progress=False)
    assert result['megapixels'] == pytest.approx(96 * 128 / 1e6)
    with rasterio.open(out) as file, rasterio.open(scene) as source:
        assert file.shape == source.shape
        assert file.crs == source.crs
        assert file.transform == source.transform
        assert file.colormap(1)[1] == (60, 200, 60, 255)
        assert json.loads(file.tags()['CLASSES']) == ['red', 'green', 'blue']
        labels = file.read(1)
    expected = model.test_step(dict(inputs=[open_raster(scene, (3, 2, 1))]))
    np.testing.assert_array_equal(labels, expected[0].pred_sem_seg.data[0])
    assert cv2.imread(str(overlay)).shape == (96, 128, 3)


def test_stock_configs_stream_unchanged(
    tiny_config, checkpoint, scene, tmp_path
):
    cfg = Config.fromfile(tiny_config)
    cfg.model.type = 'EncoderDecoder'
    cfg.model.data_preprocessor.type = 'SegDataPreProcessor'
    cfg.model.test_cfg = dict(mode='whole')
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='PackSegInputs'),
    ]
    model = init_segmentor(cfg, checkpoint, 'cpu')
    assert model.streams
    segment(model, scene, tmp_path / 'map.tif', progress=False)
    labels = open_raster(tmp_path / 'map.tif').read()[..., 0]
    # A window of 1024 pixels takes the scene whole, as the config says.
    raster = open_raster(scene, (3, 2, 1))
    whole = init_segmentor(tiny_config, checkpoint, 'cpu')
    whole.test_cfg = ConfigDict(mode='whole')
    with torch.no_grad():
        expected = whole.test_step(dict(inputs=[raster]))
    np.testing.assert_array_equal(labels, expected[0].pred_sem_seg.data[0])


def test_models_that_cannot_stream(tiny_config, checkpoint):
    with pytest.raises(ValueError, match="'SegTTAModel' cannot stream"):
        init_segmentor(
            tiny_config,
            checkpoint,
            'cpu',
            cfg_options={'model.type': 'SegTTAModel'},
        )


def test_bands_of_other_images(tiny_config, checkpoint, scene, tmp_path):
    model = init_segmentor(tiny_config, checkpoint, 'cpu')
    image = open_raster(scene).read()
    four = np.concatenate([image[..., :1] * 0, image], -1)
    write_geotiff(tmp_path / 'four.tif', four)
    with pytest.raises(RasterError, match=r'four\.tif: has 4 band.*--bands'):
        segment(model, tmp_path / 'four.tif', tmp_path / 'map.tif')
    assert not (tmp_path / 'map.tif').exists()
    for source, bands in ((scene, None), ('four.tif', (2, 3, 4))):
        segment(
            model,
            tmp_path / source,
            tmp_path / f'{bands}.tif',
            bands=bands,
            progress=False,
        )
    maps = [
        open_raster(tmp_path / f'{b}.tif').read() for b in (None, (2, 3, 4))
    ]
    np.testing.assert_array_equal(*maps)


def test_a_corrupt_scene_leaves_no_map(tiny_config, checkpoint, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
    path = tmp_path / 'scene.tif'
    write_geotiff(path, noise)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60_000] = bytes(60_000)
    path.write_bytes(data)
    model = init_segmentor(tiny_config, checkpoint, 'cpu')
    with pytest.raises(RasterError, match=r'scene\.tif: rows .* cannot be'):
        segment(model, path, tmp_path / 'map.tif', progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ['scene.tif']


def test_arrays_stream_row_by_row(tiny_config, checkpoint, scene):
    model = init_segmentor(tiny_config, checkpoint, 'cpu')
    pixels = open_raster(scene, (3, 2, 1)).read()
    rows = list(model.stream(ArrayRaster(pixels)))
    assert [y for y, _ in rows] == sorted(y for y, _ in rows)
    assert sum(len(r) for _, r in rows) == 96
