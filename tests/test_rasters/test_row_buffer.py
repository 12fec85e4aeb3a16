import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_uhr.rasters import (
    ArrayRaster,
    Raster,
    RasterError,
    RowBuffer,
    ScaledRaster,
    open_raster,
    write_geotiff,
)
from mmseg_uhr.rasters.array import resize_array
from mmseg_uhr.rasters.cache import DECODED_IMAGES
from mmseg_uhr.tiling import TilePlan


class SpiedRaster(Raster):
    """Noise that remembers which rows were read, and how."""

    def __init__(self, shape, block_height=1, masked=False):
        rng = np.random.default_rng(0)
        self.array = rng.integers(0, 255, (*shape, 2), np.uint8)
        self.inner = ArrayRaster(self.array)
        self.name, self.shape, self.bands = 'spied', shape, 2
        self.dtype, self.block_height = self.array.dtype, block_height
        self.has_mask = masked
        self.rows, self.windows = [], []

    def _read(self, window, size, resampling):
        self.windows.append(tuple(window))
        return self.inner._read(window, size, resampling)

    def _read_rows(self, y, height):
        self.rows += range(y, y + height)
        mask = self.array[y : y + height, :, 0] > 100
        return self.array[y : y + height], mask if self.has_mask else None


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(1).integers(0, 255, shape).astype(dtype)


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 60)),
    crop=st.integers(1, 150),
    stride=st.floats(0.1, 1),
    block_height=st.sampled_from([1, 16, 48, 100, 512]),
    begin=st.floats(0, 0.99),
)
def test_every_block_is_read_once_from_the_first_window_on(
    shape, crop, stride, block_height, begin
):
    raster = SpiedRaster(shape, block_height)
    step = max(int(crop * stride), 1)
    plan = list(TilePlan(shape, (crop, crop), (step, step)))
    plan = plan[int(begin * len(plan)) :]
    buffer = RowBuffer(raster, min(crop, shape[0]))
    kept = []
    for window in plan:
        y, x, h, w = window
        found = buffer.read(window)
        kept.append((found, raster.array[y : y + h, x : x + w]))
    # Also after the buffer has gone on.
    for found, expected in kept:
        np.testing.assert_array_equal(found, expected)
    assert raster.windows == []
    first = plan[0].y // block_height * block_height
    assert raster.rows == list(range(first, raster.rows[-1] + 1))
    assert buffer._pixels.shape[1] <= crop + max(64, block_height) + 48


def test_views_above_the_first_window():
    """A context begins above its window, wherever a run begins."""
    raster = SpiedRaster((1000, 20))
    buffer = RowBuffer(raster, 300)
    for y in range(400, 900, 50):
        window, context = (y, 0, 100, 20), (y - 100, -5, 300, 30)
        np.testing.assert_array_equal(
            buffer.read(window), raster.array[y : y + 100]
        )
        np.testing.assert_array_equal(
            buffer.read(context), raster.inner.read(context)
        )
    assert raster.windows == []
    # Only what came before the first context was read again.
    assert raster.rows[raster.rows.index(300) :] == list(range(300, 1000))


def test_rows_that_left_come_from_the_raster():
    raster = SpiedRaster((1000, 20))
    buffer = RowBuffer(raster, 100)
    for y in (0, 500, 580, 620, 700):
        buffer.read((y, 3, 100, 9))
    assert raster.windows == []
    for window in [(100, 0, 50, 20), (600, 0, 101, 20)]:
        y, x, h, w = window
        np.testing.assert_array_equal(
            buffer.read(window), raster.array[y : y + h, x : x + w]
        )
        assert raster.windows.pop() == window
    # Rows that no window asked for were not read.
    assert not set(raster.rows) & set(range(128, 500))


@pytest.mark.parametrize('size', [(40, 30), (10, 7), (120, 100)])
def test_resizing_does_not_depend_on_what_is_held(size):
    """A run that goes on in the middle finds what the first run found."""
    raster = SpiedRaster((600, 70))
    window = (300, 10, 64, 50)
    expected = resize_array(raster.array[300:364, 10:60], size, 'area')
    whole = RowBuffer(raster, 64)
    for y in range(0, 301, 50):
        whole.read((y, 0, 64, 70))
    gone = RowBuffer(raster, 64)
    gone.read((0, 0, 64, 70))
    gone.read((500, 0, 64, 70))
    gone.read((536, 0, 64, 70))
    for buffer in (whole, RowBuffer(raster, 64), gone):
        np.testing.assert_array_equal(buffer.read(window, size), expected)


def test_masks_come_with_the_rows():
    raster = SpiedRaster((300, 40), masked=True)
    buffer = RowBuffer(raster, 50)
    for y in range(0, 250, 40):
        mask = buffer.read_mask((y, 5, 50, 30))
        expected = raster.array[y : y + 50, 5:35]
        np.testing.assert_array_equal(mask, expected[..., 0] > 100)
        np.testing.assert_array_equal(buffer.read((y, 5, 50, 30)), expected)
    assert raster.rows == list(range(raster.rows[-1] + 1))
    assert raster.windows == []


def write(path, image, **profile):
    height, width, bands = image.shape
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=height,
        width=width,
        count=bands,
        dtype=image.dtype.name,
        **profile,
    ) as file:
        file.write(image.transpose(2, 0, 1))
    return path


FORMATS = {
    'tiled.tif': dict(tiled=True, blockxsize=256, blockysize=128),
    'rows.tif': dict(compress='deflate', blockysize=1),
    'strips.tif': dict(compress='lzw', blockysize=50),
    'bands.tif': dict(compress='deflate', interleave='band', blockysize=3),
    'one_low_strip.tif': dict(compress='deflate', blockysize=1500),
    'one_high_strip.tif': dict(compress='deflate', blockysize=2100),
    'plain_strip.tif': dict(blockysize=2100),
    'scene.png': None,
    'scene.jpg': None,
}


@pytest.fixture(scope='module', params=FORMATS)
def file(request, tmp_path_factory):
    """Path and pixels of a file of more than a megapixel."""
    name = request.param
    path = tmp_path_factory.mktemp('formats') / name
    height = 1500 if 'low' in name else 2100
    image = noise(height, 800, 3)
    if FORMATS[name] is None:
        cv2.imwrite(str(path), image[..., ::-1])
        image = open_raster(path)._read_file(
            (1, 2, 3), (0, 0, height, 800), (height, 800), 'nearest'
        )
    else:
        write(path, image, **FORMATS[name])
    return path, image


def test_files_of_all_layouts(file):
    path, image = file
    buffer = RowBuffer(open_raster(path, (3, 1)), 300)
    windows = list(TilePlan(image.shape[:2], (300, 400), (250, 300)))
    # From the middle, too.
    for y, x, h, w in windows + windows[9:]:
        np.testing.assert_array_equal(
            buffer.read((y, x, h, w)), image[y : y + h, x : x + w][..., [2, 0]]
        )
    scanned = path.stem in ('scene', 'one_high_strip')
    assert open_raster(path).random_access != (
        scanned or path.stem == 'one_low_strip'
    )


@pytest.mark.parametrize('name', ['scene.png', 'scene.jpg', 'one_strip.tif'])
def test_sequential_formats_are_not_decoded_whole(tmp_path, name):
    path, image = tmp_path / name, noise(2100, 800, 3)
    if path.suffix == '.tif':
        write(path, image, compress='deflate', blockysize=2100)
    else:
        cv2.imwrite(str(path), image)
    kept = DECODED_IMAGES.nbytes
    buffer = RowBuffer(open_raster(path), 200)
    for y in range(0, 1900, 150):
        buffer.read((y, 0, 200, 800))
    assert DECODED_IMAGES.nbytes == kept


def test_images_that_the_cache_cannot_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(DECODED_IMAGES, 'max_bytes', 10**6)
    kept = DECODED_IMAGES.nbytes
    image = noise(1500, 800, 3)
    cv2.imwrite(str(tmp_path / 'a.png'), image[..., ::-1])
    raster = open_raster(tmp_path / 'a.png')
    window = (700, 20, 100, 300)
    expected = image[700:800, 20:320]
    for kind in (raster, RowBuffer(raster, 100)):
        np.testing.assert_array_equal(kind.read(window), expected)
    assert DECODED_IMAGES.nbytes == kept


def test_scaled_files(tmp_path):
    image = noise(500, 60, 2, dtype=np.uint16) * 7
    image[40:60, 10:20] = 0
    write(tmp_path / 'a.tif', image, nodata=0)
    scaled = ScaledRaster(open_raster(tmp_path / 'a.tif'), [(0, 900), (5, 99)])
    buffer = RowBuffer(scaled, 80)
    assert buffer.has_mask
    assert buffer.dtype == np.uint8
    for y in range(0, 420, 60):
        window = (y, 0, 80, 60)
        np.testing.assert_array_equal(
            buffer.read(window, fill=3), scaled.read(window, fill=3)
        )
        mask = buffer.read_mask(window)
        expected = (image[y : y + 80] != 0).any(axis=2)
        np.testing.assert_array_equal(mask is None or mask, expected)


def test_overviews_and_masks_are_left_to_gdal(tmp_path):
    """GDAL averages without pixels that have no data."""
    image = noise(1200, 1100, 1)
    path = write(tmp_path / 'a.tif', image, tiled=True)
    with rasterio.open(path, 'r+') as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.nearest)
    raster = open_raster(path)
    assert raster.has_overviews
    buffer = RowBuffer(raster, 600)
    window, size = (0, 0, 600, 600), (150, 150)
    # Nearest overviews are not averages.
    np.testing.assert_array_equal(
        buffer.read(window, size), raster.read(window, size)
    )
    masked = open_raster(write(tmp_path / 'b.tif', image, nodata=7))
    np.testing.assert_array_equal(
        RowBuffer(masked, 600).read(window, (500, 500)),
        masked.read(window, (500, 500)),
    )


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / 'scene.tif'
    write_geotiff(path, noise(1600, 600, 3))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9000] = bytes(9000)
    path.write_bytes(data)
    buffer = RowBuffer(open_raster(path), 100)

    def read():
        return [buffer.read((y, 0, 100, 600)) for y in range(0, 1500, 100)]

    with pytest.raises(RasterError, match=r'scene\.tif: rows \d+-\d+, col'):
        read()
