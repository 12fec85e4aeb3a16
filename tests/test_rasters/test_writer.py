import multiprocessing
import resource

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from mmseg_uhr.rasters import (
    GeoReference,
    GeoTIFFWriter,
    RasterError,
    open_raster,
    write_copy,
    write_geotiff,
)
from mmseg_uhr.rasters.verify import check_rows, row_checksums

FORK = multiprocessing.get_context('fork')
PALETTE = [(10, 20, 30), (40, 50, 60), (70, 80, 90), (1, 2, 3)]
GEOREF = GeoReference(CRS.from_epsg(4326), Affine(0.1, 0, -180, 0, -0.1, 90))


def labels(height=1100, width=1300):
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, (height, width), np.uint8)


def write(path, array, **options):
    bands = 1 if array.ndim == 2 else array.shape[2]
    with GeoTIFFWriter(
        path, array.shape[:2], bands, array.dtype.name, **options
    ) as writer:
        for y in range(0, len(array), 341):
            writer.write_rows(y, array[y : y + 341])


def test_a_label_map_with_everything(tmp_path):
    path, array = tmp_path / 'map.tif', labels()
    write(
        path,
        array,
        georef=GEOREF,
        palette=PALETTE,
        tags={'A': 'b'},
        nodata=255,
        descriptions=['class'],
        overviews=True,
    )
    assert [p.name for p in tmp_path.iterdir()] == ['map.tif']
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), array)
        assert file.nodata == 255
        assert file.descriptions == ('class',)
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2, 4]
        assert file.colormap(1)[1] == (40, 50, 60, 255)
        assert file.crs == GEOREF.crs
    with rasterio.open(path, overview_level=0) as file:
        assert file.shape == (550, 650)
        # Labels of the map, every second one.
        small = file.read(1)
    assert any(
        (small == array[y::2, x::2]).all() for y in (0, 1) for x in (0, 1)
    )


@pytest.mark.parametrize('categorical', [True, False])
def test_overviews_of_classes_are_no_means(tmp_path, categorical):
    array = (labels() * 100).astype(np.int16)
    write(tmp_path / 'map.tif', array, overviews=True, categorical=categorical)
    with rasterio.open(tmp_path / 'map.tif', overview_level=1) as file:
        values = np.unique(file.read(1))
    assert (len(values) <= 4) == categorical


def test_bands(tmp_path):
    array = np.stack([labels(700, 600), labels(700, 600) + 1] * 2, axis=2)
    write(tmp_path / 'p.tif', array, descriptions=['a', 'b', 'c', 'd'])
    with rasterio.open(tmp_path / 'p.tif') as file:
        np.testing.assert_array_equal(file.read(), array.transpose(2, 0, 1))
        assert file.descriptions == ('a', 'b', 'c', 'd')


def test_a_row_of_blocks_fits_into_gdals_cache():
    writer = GeoTIFFWriter('wide.tif', (10**5, 10**5), bands=7)
    height = writer.profile['blockysize']
    assert height % 16 == 0
    assert height * 10**5 * 7 <= 48 * 2**20


def test_rows_that_were_never_written(tmp_path):
    writer = GeoTIFFWriter(tmp_path / 'map.tif', (10, 10)).__enter__()
    writer.write_rows(7, np.zeros((3, 10), np.uint8))
    writer.write_rows(0, np.zeros((4, 10), np.uint8))
    with pytest.raises(RasterError, match=r'map\.tif: 3 rows.*row 4, were n'):
        writer.__exit__(None)
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_pixel_is_found(tmp_path):
    array = labels(300, 200)
    write_geotiff(tmp_path / 'map.tif', array)
    checksums = np.array(row_checksums(array[None]), np.uint32)
    check_rows(tmp_path / 'map.tif', checksums)
    array[123, 45] ^= 1
    checksums = np.array(row_checksums(array[None]), np.uint32)
    with pytest.raises(OSError, match='row 123 reads back different'):
        check_rows(tmp_path / 'map.tif', checksums)


def test_an_existing_file_stays_until_the_new_one_is_complete(tmp_path):
    path, array = tmp_path / 'map.tif', labels(300, 200)
    write(path, array)
    with pytest.raises(RasterError, match='never written'):
        with GeoTIFFWriter(path, (300, 200)):
            pass
    np.testing.assert_array_equal(open_raster(path).read()[..., 0], array)


def in_a_process(function, *args):
    """Run a function in a process of its own and return its result."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: sender.send(function(*args)))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def make(path, source, driver):
    if driver != 'GTiff':
        return write_copy(source, path, driver)
    array = open_raster(source).read()[..., 0]
    return write(path, array, palette=PALETTE, overviews=True)


def make_with_little_space(folder, driver, limits):
    """Return the message of each attempt, and what was left behind."""
    found = []
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[-1]))
        try:
            make(folder / 'map', folder / 'source', driver)
        except RasterError as error:
            message = str(error)
        else:
            message = 'done'
        found.append((message, {path.name for path in folder.iterdir()}))
    return found


@pytest.mark.parametrize('driver', ['GTiff', 'COG', 'PNG'])
def test_a_full_disk_leaves_no_file(tmp_path, driver):
    """Files may not grow beyond a share of what the result needs."""
    write_geotiff(tmp_path / 'source', labels(700, 600), palette=PALETTE)
    make(tmp_path / 'good', tmp_path / 'source', driver)
    size = (tmp_path / 'good').stat().st_size
    shares = (0.02, 0.3, 0.6, 0.76, 0.9, 0.95, 0.99)
    limits = [100, *(int(size * share) for share in shares), size - 1, size]
    *failed, last = in_a_process(
        make_with_little_space, tmp_path, driver, limits
    )
    for message, left in failed:
        assert message.startswith(str(tmp_path / 'map'))
        assert 'MiB of free space' in message
        assert left == {'source', 'good'}
    assert last == ('done', {'source', 'good', 'map'})


def test_cog(tmp_path):
    array = labels()
    details = dict(
        georef=GEOREF,
        palette=PALETTE,
        tags={'CLASSES': '["a"]'},
        nodata=255,
        descriptions=['class'],
    )
    write(tmp_path / 'map.tif', array, **details)
    write_copy(tmp_path / 'map.tif', tmp_path / 'cog.tif', 'COG')
    assert len(list(tmp_path.iterdir())) == 2
    with rasterio.open(tmp_path / 'cog.tif') as file:
        np.testing.assert_array_equal(file.read(1), array)
        assert file.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
        assert file.compression.name == 'deflate'
        assert file.tags()['CLASSES'] == '["a"]'
        assert file.nodata == 255
        assert file.descriptions == ('class',)
        assert file.colormap(1)[2] == (70, 80, 90, 255)
        assert file.crs == GEOREF.crs
        assert file.transform == GEOREF.transform
        assert file.overviews(1) == [2, 4]
        block = int(file.get_tag_item('BLOCK_OFFSET_0_0', 'TIFF', bidx=1))
        directories = [
            int(file.get_tag_item('IFD_OFFSET', 'TIFF', bidx=1, ovr=level))
            for level in (0, 1)
        ]
        small = [
            int(file.get_tag_item('BLOCK_OFFSET_0_0', 'TIFF', 1, level))
            for level in (0, 1)
        ]
    # All directories, then the smallest overview, then larger ones.
    assert max(directories) < small[1] < small[0] < block
    with rasterio.open(tmp_path / 'cog.tif', overview_level=1) as file:
        assert set(np.unique(file.read(1))) <= set(range(4))


def test_cog_of_bands(tmp_path):
    array = np.stack([labels(), labels() + 9], axis=2) * 10
    write(tmp_path / 'p.tif', array, descriptions=['a', 'b'])
    write_copy(tmp_path / 'p.tif', tmp_path / 'cog.tif', 'COG')
    with rasterio.open(tmp_path / 'cog.tif') as file:
        np.testing.assert_array_equal(file.read(), array.transpose(2, 0, 1))
        assert file.descriptions == ('a', 'b')
        # Means of the values.
        small = file.read(1, out_shape=(275, 325))
    assert len(np.unique(small)) > 4


def test_png(tmp_path):
    array = labels(300, 200)
    write(
        tmp_path / 'map.tif',
        array,
        georef=GEOREF,
        palette=PALETTE,
        tags={'CLASSES': '["a"]'},
    )
    write_copy(tmp_path / 'map.tif', tmp_path / 'map.png', 'PNG')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['map.png', 'map.tif']
    with rasterio.open(tmp_path / 'map.png') as file:
        np.testing.assert_array_equal(file.read(1), array)
        assert file.colormap(1)[1] == (40, 50, 60, 255)
        assert file.tags()['CLASSES'] == '["a"]'


@pytest.mark.parametrize(
    'array', [np.zeros((9, 9), np.int16), np.zeros((9, 9, 5), np.uint8)]
)
def test_what_a_png_cannot_hold(tmp_path, array):
    write_geotiff(tmp_path / 'map.tif', array)
    with pytest.raises(RasterError, match=r'map\.png: a PNG holds 1 to 4'):
        write_copy(tmp_path / 'map.tif', tmp_path / 'map.png', 'PNG')


def test_copies_that_make_no_sense(tmp_path):
    write_geotiff(tmp_path / 'map.tif', labels(9, 9))
    with pytest.raises(ValueError, match="'GIF': expected COG or PNG"):
        write_copy(tmp_path / 'map.tif', tmp_path / 'map.gif', 'GIF')
    with pytest.raises(RasterError, match='none.tif: cannot be read to be c'):
        write_copy(tmp_path / 'none.tif', tmp_path / 'map.tif', 'COG')


def png_growth(folder, height):
    """Return by how much a process grows that copies many rows, in MiB."""
    rows = np.arange(2048 * 512).reshape(512, 2048).astype(np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes: GDAL keeps less than either image.
    with rasterio.Env(GDAL_CACHEMAX=8 * 2**20):
        with GeoTIFFWriter(folder / 'a.tif', (height, 2048)) as writer:
            for y in range(0, height, 512):
                writer.write_rows(y, rows)
        write_copy(folder / 'a.tif', folder / 'a.png', 'PNG')
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) / 1024


def test_copies_are_made_in_flat_memory(tmp_path):
    small, large = (
        in_a_process(png_growth, tmp_path, height) for height in (8192, 32768)
    )
    # The larger one has 48 MiB more.
    assert large - small < 8


@pytest.mark.parametrize('rest', [b'', b'II*\0\x08\0\0\0', b'nonsense'])
@pytest.mark.parametrize('driver', ['GTiff', 'COG', 'PNG'])
def test_what_a_killed_run_left_is_replaced(tmp_path, driver, rest):
    array = labels(64, 72)
    source, path = tmp_path / 'map.tif', tmp_path / f'copy.{driver.lower()}'
    for file in source, path:
        file.with_name(f'.{file.name}.partial').write_bytes(rest)
    write(source, array)
    if driver != 'GTiff':
        write_copy(source, path, driver)
        source = path
    with rasterio.open(source) as file:
        np.testing.assert_array_equal(file.read(1), array)
    assert not (tmp_path / f'.{source.name}.partial').exists()
