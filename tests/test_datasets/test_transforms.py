import random

import cv2
import numpy as np
import pytest
import rasterio
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.datasets.transforms import LoadAnnotations

from mmseg_uhr.datasets.transforms import (
    ForEachView,
    LoadLabelRaster,
    LoadRaster,
    PackUHRInputs,
    RandomD4,
    RandomWindow,
    ReadViews,
)
from mmseg_uhr.datasets.transforms.augment import _apply_to_box
from mmseg_uhr.rasters import RasterError, write_geotiff


@pytest.fixture
def scene(tmp_path):
    """A scene whose labels can be computed from its pixels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (30, 40), np.uint8).repeat(8, 0).repeat(8, 1)
    image = np.stack([labels * 10, labels * 20, labels * 30], -1)
    labels[:16, :16] = 255
    write_geotiff(tmp_path / 'a.tif', image)
    write_geotiff(tmp_path / 'a_label.tif', labels)
    results = dict(
        img_path=str(tmp_path / 'a.tif'),
        seg_map_path=str(tmp_path / 'a_label.tif'),
        label_map=None,
        reduce_zero_label=False,
        seg_fields=[],
    )
    return results, image, labels


def load(results):
    return LoadLabelRaster()(LoadRaster()(dict(results)))


def test_training_pipeline(scene):
    results, image, labels = scene
    window = RandomWindow((64, 48))(load(results))
    assert 'img' not in window
    read = ReadViews()(window)
    y, x, h, w = read['window']
    assert (h, w) == (64, 48)
    crop = slice(y, y + h), slice(x, x + w)
    np.testing.assert_array_equal(read['img'], image[crop][..., ::-1])
    np.testing.assert_array_equal(read['gt_seg_map'], labels[crop])
    assert read['ori_shape'] == (240, 320)
    assert read['img_shape'] == (64, 48)
    packed = PackUHRInputs()(read)
    assert packed['inputs'].shape == (3, 64, 48)
    label = packed['data_samples'].gt_sem_seg.data
    assert label.dtype == torch.uint8
    assert label.shape == (1, 64, 48)
    assert packed['data_samples'].window == read['window']


def test_testing_pipeline_reads_no_pixels(scene):
    results, image, labels = scene
    packed = PackUHRInputs()(load(results))
    raster = packed['inputs']
    np.testing.assert_array_equal(raster.read(), image[..., ::-1])
    sample = packed['data_samples']
    np.testing.assert_array_equal(sample.gt_sem_seg.data[0], labels)
    assert sample.ori_shape == (240, 320)
    batch = pseudo_collate([packed, packed])
    assert batch['inputs'] == [raster, raster]


def test_a_scene_without_labels_can_be_predicted(scene):
    results, _, _ = scene
    del results['seg_map_path']
    packed = PackUHRInputs()(load(results))
    assert 'gt_sem_seg' not in packed['data_samples']


def test_arrays_in_memory(scene):
    _, image, _ = scene
    packed = PackUHRInputs()(load(dict(img=image)))
    np.testing.assert_array_equal(packed['inputs'].read(), image)


@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize('label_map', [None, {0: 2, 1: 255, 2: 0, 3: 1}])
def test_label_mapping_is_stocks(
    scene, tmp_path, label_map, reduce_zero_label
):
    results, _, labels = scene
    results.update(label_map=label_map, reduce_zero_label=reduce_zero_label)
    cv2.imwrite(str(tmp_path / 'a.png'), labels)
    stock = LoadAnnotations()(
        dict(results, seg_map_path=str(tmp_path / 'a.png'), seg_fields=[])
    )
    found = ReadViews()(load(results))['gt_seg_map']
    np.testing.assert_array_equal(found, stock['gt_seg_map'])


def test_stock_transforms_may_follow(scene):
    init_default_scope('mmseg')
    results, _, _ = scene
    pipeline = Compose(
        [
            dict(type='mmseg_uhr.LoadRaster'),
            dict(type='mmseg_uhr.LoadLabelRaster'),
            dict(type='mmseg_uhr.RandomWindow', crop_size=(64, 64)),
            dict(type='mmseg_uhr.ReadViews'),
            dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2)),
            dict(type='RandomCrop', crop_size=(32, 32)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ]
    )
    for _ in range(5):
        packed = pipeline(dict(results))
        assert packed['inputs'].shape == (3, 32, 32)
        assert packed['data_samples'].gt_sem_seg.data.shape == (1, 32, 32)


def test_windows_are_uniform_and_stay_inside(scene):
    results = load(scene[0])
    transform = RandomWindow((64, 64))
    np.random.seed(0)
    starts = np.array(
        [transform(dict(results))['window'][:2] for _ in range(400)]
    )
    assert starts.min() >= 0
    assert (starts <= (240 - 64, 320 - 64)).all()
    assert abs(starts.mean(0) - (88, 128)).max() < 12


def test_a_scene_smaller_than_the_crop_is_taken_whole(scene):
    read = ReadViews()(RandomWindow((512, 100))(load(scene[0])))
    assert read['img'].shape == (240, 100, 3)


def test_class_balance(tmp_path):
    """A class of 0.02 % of the pixels is in half of the balanced windows."""
    labels = np.zeros((1000, 1500), np.uint8)
    labels[400:416, 800:816] = 1
    write_geotiff(tmp_path / 'a.tif', np.zeros((*labels.shape, 3), np.uint8))
    write_geotiff(tmp_path / 'b.tif', labels)
    results = load(
        dict(
            img_path=str(tmp_path / 'a.tif'),
            seg_map_path=str(tmp_path / 'b.tif'),
        )
    )
    np.random.seed(0)
    share = {}
    for balanced in (0.0, 1.0):
        transform = RandomWindow((100, 100), class_balanced=balanced)
        hits = 0
        for _ in range(200):
            y, x, h, w = transform(dict(results))['window']
            hits += labels[y : y + h, x : x + w].any()
        share[balanced] = hits / 200
    assert share[0.0] < 0.1
    assert 0.4 < share[1.0] < 0.62


def test_class_balance_follows_the_label_map(tmp_path):
    """The same file, first as it is, then with its rare class ignored."""
    labels = np.zeros((200, 200), np.uint8)
    labels[:4, :4] = 1
    write_geotiff(tmp_path / 'a.tif', np.zeros((200, 200, 3), np.uint8))
    write_geotiff(tmp_path / 'b.tif', labels)
    results = dict(
        img_path=str(tmp_path / 'a.tif'), seg_map_path=str(tmp_path / 'b.tif')
    )
    shares = []
    for label_map in (None, {1: 255}):
        loaded = load(dict(results, label_map=label_map))
        windows = [
            RandomWindow((10, 10), 1.0)(dict(loaded))['window']
            for _ in range(200)
        ]
        shares.append(np.mean([y < 4 and x < 4 for y, x, _, _ in windows]))
    assert shares[0] > 0.3
    assert shares[1] < 0.1


def test_class_balance_with_nothing_labelled(tmp_path):
    empty = np.full((50, 50), 255, np.uint8)
    write_geotiff(tmp_path / 'a.tif', np.zeros((50, 50, 3), np.uint8))
    write_geotiff(tmp_path / 'b.tif', empty)
    results = load(
        dict(
            img_path=str(tmp_path / 'a.tif'),
            seg_map_path=str(tmp_path / 'b.tif'),
        )
    )
    assert RandomWindow((20, 20), 1.0)(results)['window'][2:] == (20, 20)


VIEWS = dict(
    context=dict(region=2, size=(64, 64), fill=7),
    scene=dict(region='scene', size=(48, 64)),
)


def test_views_show_the_surroundings_at_their_place(scene):
    results, image, _ = scene
    loaded = load(results)
    loaded['window'] = (0, 160, 64, 64)
    read = ReadViews(VIEWS)(loaded)
    assert read['img'].shape == (64, 64, 3)
    assert read['views']['context'].shape == (64, 64, 3)
    assert read['views']['scene'].shape == (48, 64, 3)
    # The upper quarter of the context lies outside the scene.
    assert (read['views']['context'][:16] == 7).all()
    assert read['view_boxes']['context'] == (0.25, 0.25, 0.5, 0.5)
    y, x, h, w = read['view_boxes']['scene']
    assert (y * 240, x * 320, h * 240, w * 320) == (0, 160, 64, 64)
    packed = PackUHRInputs()(read)
    assert {k: tuple(v.shape) for k, v in packed['inputs'].items()} == dict(
        local=(3, 64, 64), context=(3, 64, 64), scene=(3, 48, 64)
    )
    assert packed['data_samples'].view_boxes == read['view_boxes']


@pytest.mark.parametrize('seed', range(16))
def test_d4_treats_image_labels_views_and_boxes_alike(seed):
    """A marked pixel stays where the boxes say it is."""
    np.random.seed(seed)
    local = np.zeros((8, 8, 3), np.uint8)
    local[1, 5] = 9
    view = np.zeros((16, 16, 3), np.uint8)
    view[2:10, 6:14] = local
    results = dict(
        img=local,
        gt_seg_map=local[..., 0].copy(),
        seg_fields=['gt_seg_map'],
        views=dict(context=view),
        view_boxes=dict(context=(2 / 16, 6 / 16, 0.5, 0.5)),
    )
    turned = RandomD4()(results)
    np.testing.assert_array_equal(turned['img'][..., 0], turned['gt_seg_map'])
    y, x, h, w = (round(16 * v) for v in turned['view_boxes']['context'])
    assert (h, w) == (8, 8)
    np.testing.assert_array_equal(
        turned['views']['context'][y : y + h, x : x + w], turned['img']
    )
    assert turned['img'].flags.c_contiguous


def test_d4_draws_all_eight_symmetries():
    np.random.seed(0)
    base = np.arange(4).reshape(2, 2, 1)
    seen = {
        RandomD4()(dict(img=base.copy()))['img'].tobytes() for _ in range(100)
    }
    assert len(seen) == 8


def test_d4_keeps_the_shape_of_oblong_windows():
    for _ in range(20):
        assert RandomD4()(dict(img=np.zeros((4, 6, 3))))['img'].shape[0] == 4


def test_boxes_turn_back_after_four_turns():
    box = (0.1, 0.3, 0.2, 0.4)
    assert _apply_to_box(box, 4, False) == pytest.approx(box)


def test_for_each_view_repeats_the_random_choices():
    init_default_scope('mmseg')
    transform = ForEachView([dict(type='PhotoMetricDistortion')])
    rng = np.random.default_rng(0)
    for seed in range(5):
        random.seed(seed)
        np.random.seed(seed)
        image = rng.integers(0, 255, (8, 8, 3), np.uint8)
        results = dict(img=image, views=dict(scene=image.copy()))
        results = transform(results)
        np.testing.assert_array_equal(
            results['img'], results['views']['scene']
        )
    first = np.random.rand()
    np.random.seed(seed)
    assert first != np.random.rand(), 'the stream of random numbers goes on'


def image_file(tmp_path, array):
    write_geotiff(tmp_path / 'odd.tif', array)
    return dict(img_path=str(tmp_path / 'odd.tif'))


@pytest.mark.parametrize('bands', [1, 4])
def test_another_number_of_bands(tmp_path, bands):
    pixels = np.arange(16 * bands).reshape(4, 4, bands).astype(np.uint8)
    results = image_file(tmp_path, pixels)
    with pytest.raises(
        RasterError,
        match=rf'odd\.tif: has {bands} band.*expects 3.*bands=\(1, ',
    ):
        LoadRaster()(dict(results))
    chosen = (1, 1, 1) if bands == 1 else (1, 2, 3)
    raster = LoadRaster(bands=chosen)(results)['raster']
    expected = pixels[..., [c - 1 for c in chosen]][..., ::-1]
    np.testing.assert_array_equal(raster.read(), expected)


def test_models_of_four_bands(tmp_path):
    pixels = np.arange(64).reshape(4, 4, 4).astype(np.uint8)
    results = image_file(tmp_path, pixels)
    raster = LoadRaster(channels=4)(results)['raster']
    np.testing.assert_array_equal(raster.read(), pixels)


def test_sixteen_bits(tmp_path):
    pixels = np.full((4, 4, 3), 1000, np.uint16)
    results = image_file(tmp_path, pixels)
    with pytest.raises(
        RasterError, match='uint16.*expects uint8.*value_range'
    ):
        LoadRaster()(dict(results))
    scaled = LoadRaster(value_range=(0, 2000))(dict(results))['raster']
    assert (scaled.read() == 128).all()
    raw = LoadRaster(dtype='uint16')(results)['raster']
    assert (raw.read() == 1000).all()


def test_one_range_per_band(tmp_path):
    pixels = np.full((4, 4, 3), 1000, np.uint16)
    results = image_file(tmp_path, pixels)
    # Red, green, blue, as in the file.
    ranges = [(0, 1000), (1000, 2000), [0, 2000]]
    raster = LoadRaster(value_range=ranges)(results)['raster']
    assert raster.read()[0, 0].tolist() == [128, 0, 255]
    with pytest.raises(ValueError, match='value_range.*each of the 3 band'):
        LoadRaster(value_range=ranges[:2])


def test_an_alpha_band_is_no_colour(tmp_path):
    pixels = np.arange(64).reshape(4, 4, 4).astype(np.uint8)
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), pixels)
    raster = LoadRaster()(dict(img_path=str(path)))['raster']
    np.testing.assert_array_equal(raster.read(), pixels[..., :3])
    assert raster.has_mask
    raster = LoadRaster(channels=4)(dict(img_path=str(path)))['raster']
    np.testing.assert_array_equal(raster.read(), pixels[..., [2, 1, 0, 3]])
    assert not raster.has_mask


def test_bands_and_channels_disagree():
    with pytest.raises(ValueError, match='names 2 bands but channels=3'):
        LoadRaster(bands=(1, 2))


def test_labels_of_another_size(scene, tmp_path):
    results, _, labels = scene
    write_geotiff(tmp_path / 'a_label.tif', labels[:-1])
    with pytest.raises(
        RasterError, match=r'a_label\.tif.*\(239, 320\).*a\.tif.*\(240, 320\)'
    ):
        load(results)


def test_coloured_labels(scene, tmp_path):
    results, image, _ = scene
    write_geotiff(tmp_path / 'a_label.tif', image)
    with pytest.raises(RasterError, match='3 bands; labels must be one band'):
        load(results)


def test_float_labels(scene, tmp_path):
    results, _, labels = scene
    write_geotiff(tmp_path / 'a_label.tif', labels.astype(np.float32))
    with pytest.raises(RasterError, match='must be integers'):
        load(results)


def test_label_ids_outside_the_classes(scene):
    results, _, _ = scene
    results.update(num_classes=3, ignore_index=255)
    with pytest.raises(
        RasterError, match=r'a_label\.tif: label ids \[3\].*3 classes'
    ):
        ReadViews()(load(results))


def test_nodata_of_labels_is_ignored(scene, tmp_path):
    results, _, labels = scene
    profile = dict(driver='GTiff', width=320, height=240, count=1)
    path = tmp_path / 'a_label.tif'
    with rasterio.open(path, 'w', **profile, dtype='uint8', nodata=3) as file:
        file.write(labels[None])
    results.update(num_classes=3, ignore_index=255)
    expected = np.where(labels == 3, 255, labels)
    found = ReadViews()(load(results))['gt_seg_map']
    np.testing.assert_array_equal(found, expected)


def test_label_ids_above_eight_bits(scene, tmp_path):
    results, _, labels = scene
    wide = labels.astype(np.uint16)
    wide[0, 0] = 300
    write_geotiff(tmp_path / 'a_label.tif', wide)
    with pytest.raises(RasterError, match='ids must lie in 0-255'):
        ReadViews()(load(results))


def test_missing_image():
    with pytest.raises(RasterError, match='lost.tif: no such file'):
        LoadRaster()(dict(img_path='lost.tif'))


@pytest.mark.parametrize('crop', [(64,), (0, 64)])
def test_crops_that_make_no_sense(crop):
    with pytest.raises(ValueError, match='crop_size'):
        RandomWindow(crop)
