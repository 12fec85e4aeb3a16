import os
import pickle
import threading

import cv2
import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS

from mmseg_uhr.rasters import (
    ArrayRaster,
    GeoReference,
    GeoTIFFWriter,
    RasterError,
    ScaledRaster,
    TensorRaster,
    as_raster,
    open_raster,
    write_geotiff,
)
from mmseg_uhr.rasters.cache import DECODED_IMAGES, ArrayCache


def smooth_image(height, width, bands=3):
    """An image whose resized versions hardly depend on the method."""
    y, x = np.mgrid[:height, :width]
    waves = [
        127 + 120 * np.sin(x / 17 + i) * np.cos(y / 23) for i in range(bands)
    ]
    return np.stack(waves, -1).astype(np.uint8)


@pytest.fixture
def geotiff(tmp_path):
    path = tmp_path / 'scene.tif'
    write_geotiff(path, smooth_image(600, 700))
    return path


def windows(shape):
    """Windows that may stick out anywhere."""
    side = st.integers(1, 2 * max(shape))
    start = st.integers(-max(shape), max(shape) - 1)
    return st.tuples(start, start, side, side)


@settings(max_examples=60, deadline=None)
@given(window=windows((40, 50)), out=st.tuples(*[st.integers(1, 60)] * 2))
def test_read_equals_slicing_a_padded_array(window, out):
    image = smooth_image(40, 50)
    padded = np.pad(image, ((100, 150), (100, 150), (0, 0)))
    y, x, h, w = window
    expected = padded[y + 100 : y + 100 + h, x + 100 : x + 100 + w]
    for raster in (
        ArrayRaster(image),
        TensorRaster(torch.from_numpy(image.transpose(2, 0, 1).copy())),
    ):
        np.testing.assert_array_equal(raster.read(window), expected)
        tensor = raster.read_tensor(window)
        np.testing.assert_array_equal(tensor.permute(1, 2, 0), expected)
        assert raster.read(window, out).shape == (*out, 3)


def test_file_windows_equal_array_windows(geotiff):
    image, raster = smooth_image(600, 700), open_raster(geotiff)
    assert raster.shape == (600, 700)
    assert raster.random_access
    for window in [(0, 0, 600, 700), (13, 27, 100, 211), (-20, 690, 50, 60)]:
        np.testing.assert_array_equal(
            raster.read(window), ArrayRaster(image).read(window)
        )


@pytest.mark.parametrize('size', [(150, 175), (200, 200), (1200, 1400)])
def test_decimated_reads_agree_between_kinds(geotiff, size):
    image = smooth_image(600, 700)
    window = (0, 0, 600, 700)
    kinds = [
        open_raster(geotiff),
        ArrayRaster(image),
        TensorRaster(torch.from_numpy(image.transpose(2, 0, 1).copy())),
    ]
    views = [kind.read(window, size).astype(int) for kind in kinds]
    for view in views[1:]:
        # Box, area and triangle filters differ a little at the border.
        inner = np.abs(view - views[0])[3:-3, 3:-3]
        assert inner.mean() < 1.5
        assert inner.max() <= 12


@pytest.mark.parametrize('size', [(7, 9), (13, 25), (80, 100)])
def test_nearest_keeps_labels_and_agrees_between_kinds(tmp_path, size):
    labels = np.random.default_rng(0).integers(0, 9, (40, 50), np.uint8)
    write_geotiff(tmp_path / 'labels.tif', labels)
    expected = ArrayRaster(labels).read(None, size, 'nearest')
    from_file = open_raster(tmp_path / 'labels.tif')
    from_tensor = TensorRaster(torch.from_numpy(labels)[None])
    for raster in (from_file, from_tensor):
        np.testing.assert_array_equal(
            raster.read(None, size, 'nearest'), expected
        )


def test_band_order(geotiff):
    image = smooth_image(600, 700)
    bgr = open_raster(geotiff, (3, 2, 1)).read((5, 6, 7, 8))
    np.testing.assert_array_equal(bgr, image[5:12, 6:14, ::-1])


def test_bands_that_are_not_there(geotiff):
    with pytest.raises(RasterError, match=r'scene\.tif.*the file has 3'):
        open_raster(geotiff, (1, 2, 4))


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_formats_without_random_access_are_decoded_once(
    tmp_path, suffix, monkeypatch
):
    path = tmp_path / f'scene{suffix}'
    cv2.imwrite(str(path), smooth_image(1100, 1000)[..., ::-1])
    raster = open_raster(path)
    assert not raster.random_access
    reads = []
    read_file = type(raster)._read_file
    monkeypatch.setattr(
        type(raster),
        '_read_file',
        lambda *a: reads.append(1) or read_file(*a),
    )
    whole = cv2.imread(str(path))[..., ::-1].astype(int)
    for window in [(0, 0, 64, 64), (500, 300, 64, 64), (1000, 936, 100, 64)]:
        y, x, h, w = window
        found = raster.read(window)[: whole.shape[0] - y].astype(int)
        error = np.abs(found - whole[y : y + h, x : x + w])
        # JPEG decoders round differently where colours change.
        assert error.mean() <= (0 if suffix == '.png' else 1)
    assert len(reads) == 1


def test_a_single_strip_has_no_random_access(tmp_path):
    path = tmp_path / 'strip.tif'
    profile = dict(driver='GTiff', width=1200, height=1200, count=1)
    with rasterio.open(
        path,
        'w',
        **profile,
        dtype='uint8',
        blockysize=1200,
        compress='deflate',
    ) as file:
        file.write(smooth_image(1200, 1200, 1).transpose(2, 0, 1))
    assert not open_raster(path).random_access


def test_cache_is_bounded_in_bytes():
    cache = ArrayCache(100)
    for key in range(5):
        cache.get(key, lambda: np.zeros(40, np.uint8))
        assert cache.nbytes <= 100
    assert cache.get('large', lambda: np.zeros(200, np.uint8)).nbytes == 200
    assert cache.nbytes == 80
    assert DECODED_IMAGES.max_bytes == 512 * 2**20


def test_a_raster_travels_to_other_processes(geotiff):
    raster = open_raster(geotiff)
    window = (10, 20, 30, 40)
    expected = raster.read(window)
    copy = pickle.loads(pickle.dumps(raster))
    np.testing.assert_array_equal(copy.read(window), expected)
    pid = os.fork()
    if pid == 0:
        same = (raster.read(window) == expected).all()
        os._exit(0 if same and raster._pid == os.getpid() else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_threads_may_share_a_raster(geotiff):
    raster, image = open_raster(geotiff), smooth_image(600, 700)
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            y, x = rng.integers(0, 500, 2)
            if (raster.read((y, x, 64, 64)) != image[y:, x:][:64, :64]).any():
                wrong.append((y, x))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_missing_file():
    with pytest.raises(RasterError, match=r'nowhere\.tif: no such file'):
        open_raster('nowhere.tif')


def test_not_an_image(tmp_path):
    path = tmp_path / 'notes.tif'
    path.write_text('no pixels here')
    with pytest.raises(RasterError, match=r'notes\.tif: cannot be opened'):
        open_raster(path)


def test_truncated_tiff(tmp_path):
    path = tmp_path / 'scene.tif'
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
    write_geotiff(path, noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    # Depending on where the directory lies, opening or reading fails.
    with pytest.raises(RasterError, match=r'scene\.tif.*truncated'):
        open_raster(path).read()


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_truncated_image(tmp_path, suffix):
    path = tmp_path / f'scene{suffix}'
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    cv2.imwrite(str(path), noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(RasterError, match=r'scene\..*truncated'):
        open_raster(path).read()


def test_nodata_and_nan_are_filled(tmp_path):
    path = tmp_path / 'height.tif'
    values = np.arange(16, dtype=np.float32).reshape(4, 4) + 1
    values[0, 0], values[1, 1] = np.nan, -9999
    profile = dict(driver='GTiff', width=4, height=4, count=1, nodata=-9999)
    with rasterio.open(path, 'w', **profile, dtype='float32') as file:
        file.write(values[None])
    for fill in (0, 7):
        expected = values.copy()
        expected[0, 0] = expected[1, 1] = fill
        found = open_raster(path).read(fill=fill)[..., 0]
        np.testing.assert_array_equal(found, expected)
    scaled = ScaledRaster(open_raster(path), (1, 16)).read()[..., 0]
    assert scaled[0, 0] == scaled[1, 1] == 0


def test_bands_of_several_types(tmp_path):
    """As of a VRT of an image and its heights."""
    image = smooth_image(40, 50, 1)
    height = image.astype(np.float32) * 3 + 0.5
    height[0, 0] = -9999
    sources = ''
    for i, (pixels, kind) in enumerate([(image, 'Byte'), (height, 'Float32')]):
        write_geotiff(tmp_path / f'{i}.tif', pixels)
        sources += f'''<VRTRasterBand dataType="{kind}" band="{i + 1}">
            <NoDataValue>-9999</NoDataValue><SimpleSource>
            <SourceFilename relativeToVRT="1">{i}.tif</SourceFilename>
            </SimpleSource></VRTRasterBand>'''
    path = tmp_path / 'both.vrt'
    path.write_text(
        f'<VRTDataset rasterXSize="50" rasterYSize="40">{sources}</VRTDataset>'
    )
    expected = np.concatenate([image, height], -1).astype(np.float32)
    raster = open_raster(path)
    assert (raster.bands, raster.dtype) == (2, np.float32)
    assert raster.read((1, 2, 30, 40)).dtype == np.float32
    np.testing.assert_array_equal(
        raster.read((1, 2, 30, 40)), expected[1:31, 2:42]
    )
    assert raster.read(fill=7)[0, 0].tolist() == [image[0, 0, 0], 7]
    assert raster.read(size=(20, 25)).shape == (20, 25, 2)
    np.testing.assert_array_equal(
        open_raster(path, (2, 1)).read((1, 0, 9, 9)), expected[1:10, :9, ::-1]
    )
    assert open_raster(path, (1,)).dtype == np.uint8


def test_complex_numbers_are_refused(tmp_path):
    path = tmp_path / 'radar.tif'
    profile = dict(driver='GTiff', width=4, height=4, count=1)
    with rasterio.open(path, 'w', **profile, dtype='complex_int16'):
        pass
    with pytest.raises(RasterError, match=r'radar\.tif: holds complex_int16'):
        open_raster(path)


def test_scaled_raster():
    values = np.array([[100, 600], [1100, 5000]], np.uint16)
    scaled = ScaledRaster(ArrayRaster(values), (100, 1100))
    assert scaled.read()[..., 0].tolist() == [[0, 128], [255, 255]]
    assert scaled.dtype == np.uint8
    with pytest.raises(ValueError, match='low < high'):
        ScaledRaster(ArrayRaster(values), (5, 5))


@pytest.mark.parametrize(
    'call',
    [
        lambda r: r.read((0, 0, 0, 5)),
        lambda r: r.read(None, (0, 3)),
        lambda r: r.read(resampling='cubic'),
    ],
)
def test_reads_that_make_no_sense(call):
    with pytest.raises(ValueError, match='at least 1 pixel|expected one of'):
        call(ArrayRaster(np.zeros((4, 4), np.uint8)))


@pytest.mark.parametrize('dtype', ['bool', 'int8', 'int32', 'int64', 'f2'])
@pytest.mark.parametrize('size', [(10, 10), (40, 20), (80, 90)])
def test_types_that_opencv_does_not_resize(dtype, size):
    image = (smooth_image(40, 40) // 128).astype(dtype)
    found = ArrayRaster(image).read(size=size)
    assert (found.dtype, found.shape) == (np.dtype(dtype), (*size, 3))
    expected = ArrayRaster(image.astype(np.float64)).read(size=size)
    tolerance = 1e-3 if dtype == 'f2' else 0.5
    assert abs(found.astype(np.float64) - expected).max() <= tolerance


def test_as_raster(geotiff):
    array = np.zeros((4, 5, 3), np.uint8)
    raster = as_raster(array)
    assert as_raster(raster) is raster
    assert as_raster(torch.zeros(3, 4, 5)).shape == (4, 5)
    assert as_raster(str(geotiff)).shape == (600, 700)
    with pytest.raises(TypeError, match='cannot read pixels from list'):
        as_raster([1, 2])
    with pytest.raises(ValueError, match='expected an array of shape'):
        as_raster(np.zeros(3))


def test_geotiff_round_trip(tmp_path):
    path = tmp_path / 'map.tif'
    georef = GeoReference(
        CRS.from_epsg(4326), Affine(0.1, 0, -180, 0, -0.1, 90)
    )
    labels = np.random.default_rng(0).integers(0, 3, (700, 300), np.uint8)
    palette = [(10, 20, 30), (40, 50, 60), (70, 80, 90)]
    with GeoTIFFWriter(
        path, labels.shape, georef=georef, palette=palette, tags={'A': 'b'}
    ) as writer:
        for y in (0, 200, 400, 600):
            assert not path.exists()
            writer.write_rows(y, labels[y : y + 200])
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), labels)
        assert file.colormap(1)[1] == (40, 50, 60, 255)
        assert file.profile['tiled']
        assert file.compression.name == 'deflate'
        assert file.tags()['A'] == 'b'
    found = open_raster(path).georef
    assert found.crs == georef.crs
    assert found.transform == georef.transform


@pytest.mark.parametrize('suffix, world', [('tif', 'tfw'), ('png', 'pgw')])
def test_world_files_tell_the_place(suffix, world, tmp_path):
    path = tmp_path / f'scene.{suffix}'
    cv2.imwrite(str(path), smooth_image(20, 30))
    path.with_suffix(f'.{world}').write_text('0.5\n0\n0\n-0.5\n700.25\n99.75')
    raster = open_raster(path)
    transform = Affine(0.5, 0, 700, 0, -0.5, 100)
    assert raster.georef == GeoReference(None, transform)
    write_geotiff(tmp_path / 'map.tif', raster.read(), raster.georef)
    with rasterio.open(tmp_path / 'map.tif') as dataset:
        assert (dataset.crs, dataset.transform) == (None, transform)


def test_a_broken_run_leaves_no_file(tmp_path):
    def run():
        with GeoTIFFWriter(tmp_path / 'map.tif', (10, 10)) as writer:
            writer.write_rows(0, np.zeros((5, 10), np.uint8))
            raise RuntimeError('the model broke')

    with pytest.raises(RuntimeError, match='the model broke'):
        run()
    assert list(tmp_path.iterdir()) == []


def test_writing_where_one_cannot(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(RasterError, match='cannot be written'):
        write_geotiff(
            tmp_path / 'file' / 'map.tif', np.zeros((4, 4), np.uint8)
        )


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('window', [(3, 5, 40, 30), (-20, -16, 90, 84)])
def test_pillow_resampling(window, dtype):
    """The triangle filter over the padded window, at full precision."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (50, 60, 3)).astype(dtype)
    y, x, h, w = window
    padded = np.pad(image, ((20, 80), (20, 80), (0, 0)))
    padded = padded[y + 20 : y + 20 + h, x + 20 : x + 20 + w]
    expected = np.stack(
        [
            np.asarray(
                Image.fromarray(padded[..., i].astype(np.float32)).resize(
                    (16, 20), Image.Resampling.BILINEAR
                )
            )
            for i in range(3)
        ],
        axis=2,
    )
    found = ArrayRaster(image).read(window, (20, 16), 'pillow')
    assert found.dtype == dtype
    # Eight bits are rounded after each axis.
    tolerance = 1 if dtype != np.float32 else 1e-3
    np.testing.assert_allclose(found, expected, atol=tolerance)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))
    found = TensorRaster(tensor).read_tensor(window, (20, 16), 'pillow')
    np.testing.assert_allclose(
        found.permute(1, 2, 0), expected, atol=1e-3, rtol=1e-5
    )
