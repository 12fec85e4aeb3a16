import zipfile

import cv2
import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp

from mmseg_uhr.rasters import (
    ArrayRaster,
    RasterError,
    RowBuffer,
    ScaledRaster,
    TensorRaster,
    open_raster,
    write_geotiff,
)


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(1).integers(1, 255, shape).astype(dtype)


def write(path, image, mask=None, alpha=False, **profile):
    height, width, bands = image.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            'w',
            driver='GTiff',
            height=height,
            width=width,
            count=bands,
            dtype=image.dtype.name,
            **profile,
        ) as file,
    ):
        if alpha:
            file.colorinterp = [
                ColorInterp.red,
                ColorInterp.green,
                ColorInterp.blue,
                ColorInterp.alpha,
            ]
        file.write(image.transpose(2, 0, 1))
        if mask is not None:
            file.write_mask(mask)
    return open_raster(path)


def masks_of(raster, window):
    """The mask by window, and by rows."""
    for kind in (raster, RowBuffer(raster, window[2])):
        mask = kind.read_mask(window)
        yield np.ones(window[2:], bool) if mask is None else mask


WINDOW = (5, 3, 20, 16)
HOLE = (slice(7, 9), slice(5, 12))


@pytest.fixture
def expected():
    valid = np.ones((40, 30), bool)
    valid[HOLE] = False
    return valid[5:25, 3:19]


def test_files_without_a_mask(tmp_path):
    raster = write(tmp_path / 'a.tif', noise(40, 30, 3))
    assert not raster.has_mask
    assert raster.read_mask(WINDOW) is None
    assert not ArrayRaster(noise(4, 4)).has_mask


def test_nodata(tmp_path, expected):
    image = noise(40, 30, 3)
    image[HOLE] = 0
    # One black band of a pixel is a colour.
    image[20, 10, 1] = 0
    raster = write(tmp_path / 'a.tif', image, nodata=0)
    assert raster.has_mask
    for mask in masks_of(raster, WINDOW):
        np.testing.assert_array_equal(mask, expected)
    for mask in masks_of(ScaledRaster(raster, (0, 100)), WINDOW):
        np.testing.assert_array_equal(mask, expected)
    assert raster.read_mask((30, 0, 10, 30)) is None


def test_nan(tmp_path, expected):
    image = noise(40, 30, 1, dtype=np.float32)
    image[HOLE] = np.nan
    raster = write(tmp_path / 'a.tif', image)
    for mask in masks_of(raster, WINDOW):
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize('nodata', [-9999, 300, 0.5])
def test_nodata_that_no_pixel_can_have(tmp_path, nodata):
    path = tmp_path / 'a.tif'
    write(path, noise(4, 4, 1))
    vrt = tmp_path / f'{nodata}.vrt'
    vrt.write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand '
        f'dataType="Byte" band="1"><NoDataValue>{nodata}</NoDataValue>'
        '<SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        '</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        '</VRTRasterBand></VRTDataset>'
    )
    raster = open_raster(vrt)
    assert not raster.has_mask
    np.testing.assert_array_equal(raster.read(), open_raster(path).read())


def test_alpha_bands_are_no_colours(tmp_path, expected):
    image = noise(40, 30, 4)
    image[..., 3] = 255
    image[HOLE][..., 3] = 0
    raster = write(tmp_path / 'a.tif', image, alpha=True)
    assert raster.bands == 3
    assert raster.has_mask
    np.testing.assert_array_equal(raster.read(), image[..., :3])
    for mask in masks_of(raster, WINDOW):
        np.testing.assert_array_equal(mask, expected)
    # Whoever asks for it knows that it is none.
    infrared = open_raster(tmp_path / 'a.tif', (1, 2, 4))
    np.testing.assert_array_equal(infrared.read(), image[..., [0, 1, 3]])
    assert not infrared.has_mask


def test_alpha_of_a_large_png(tmp_path):
    image = noise(1100, 1000, 4)
    image[..., 3] = np.where(image[..., 3] > 99, 255, 0)
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), image[..., [2, 1, 0, 3]])
    raster = open_raster(path)
    assert not raster.random_access
    buffer = RowBuffer(raster, 300)
    for y in (0, 250, 500, 800):
        window = (y, 100, 300, 700)
        valid = image[y : y + 300, 100:800, 3] > 0
        for mask in (raster.read_mask(window), buffer.read_mask(window)):
            np.testing.assert_array_equal(mask, valid)
        np.testing.assert_array_equal(
            buffer.read(window), image[y : y + 300, 100:800, :3]
        )


def test_internal_masks(tmp_path, expected):
    valid = np.ones((40, 30), bool)
    valid[HOLE] = False
    image = noise(40, 30, 3)
    raster = write(tmp_path / 'a.tif', image, mask=valid)
    assert raster.has_mask
    for mask in masks_of(raster, WINDOW):
        np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(raster.read(), image)


def test_four_bands_of_ours_are_no_transparency(tmp_path):
    image = noise(40, 30, 4)
    write_geotiff(tmp_path / 'a.tif', image)
    raster = open_raster(tmp_path / 'a.tif')
    assert not raster.has_mask
    np.testing.assert_array_equal(raster.read(), image)


def test_one_range_per_band(tmp_path):
    image = np.array([[[0, 0], [50, 500], [100, 1000]]], np.uint16)
    scaled = ScaledRaster(ArrayRaster(image), [(0, 100), [0, 1000]])
    assert scaled.read().tolist() == [[[0, 0], [128, 128], [255, 255]]]
    assert scaled.identity()['value_range'] == [[0, 100], [0, 1000]]


@pytest.mark.parametrize(
    'value_range',
    [(5, 5), (1,), [(0, 1)], [(0, 1), (3, 2)], [(0, 1)] * 3, 'ab', (0, None)],
)
def test_ranges_that_make_no_sense(value_range):
    with pytest.raises(ValueError, match=r'value_range.*for each of the 2 b'):
        ScaledRaster(ArrayRaster(noise(4, 4, 2)), value_range)


def test_names_that_are_no_local_files(tmp_path):
    image = noise(40, 30, 3)
    write_geotiff(tmp_path / 'a.tif', image)
    with zipfile.ZipFile(tmp_path / 'scenes.zip', 'w') as archive:
        archive.write(tmp_path / 'a.tif', 'a.tif')
    for name in (
        f'/vsizip/{tmp_path}/scenes.zip/a.tif',
        f'zip://{tmp_path}/scenes.zip!a.tif',
    ):
        raster = open_raster(name)
        np.testing.assert_array_equal(raster.read(), image)
        assert raster.identity()['name'] == name
        with pytest.raises(RasterError, match='cannot be opened'):
            open_raster(name.replace('a.tif', 'b.tif'))


def test_identity_changes_with_the_file(tmp_path):
    path = tmp_path / 'a.tif'
    write_geotiff(path, noise(40, 30, 3))
    before = open_raster(path).identity()
    assert before == open_raster(path).identity()
    assert before['name'] == 'a.tif'
    assert before['bytes'] == path.stat().st_size
    assert open_raster(path, (3, 2, 1)).identity() != before
    write_geotiff(path, noise(40, 31, 3))
    assert open_raster(path).identity() != before


def test_identity_of_pixels_in_memory():
    image = noise(40, 30, 3)
    identity = ArrayRaster(image).identity()
    assert ArrayRaster(image.copy()).identity() == identity
    other = image.copy()
    other[-1, -1, -1] ^= 1
    assert ArrayRaster(other).identity() != identity
    tensor = torch.from_numpy(image)
    assert TensorRaster(tensor).identity() != TensorRaster(tensor + 1)
