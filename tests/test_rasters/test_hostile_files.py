"""Files that were made to do harm, or were broken on the way."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import rasterio
from PIL import Image

from mmseg_uhr.apis.scenes import find_scenes
from mmseg_uhr.rasters import (
    RasterError,
    RowBuffer,
    open_raster,
    write_geotiff,
)
from mmseg_uhr.rasters.limits import MAX_PIXELS
from mmseg_uhr.rasters.vrt import check_sources


def png_bomb(path, height, width, rows=1):
    """Write a PNG that claims a size and holds a few rows of it."""

    def chunk(kind, data):
        body = kind + data
        return (
            struct.pack('>I', len(data))
            + body
            + struct.pack('>I', zlib.crc32(body))
        )

    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * rows), 9)
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', pixels)
        + chunk(b'IEND', b'')
    )
    return path


def sparse_tiff(path, height, width, **options):
    """Write a TIFF of which no block is there, all zeros by its own word."""
    options = dict(dict(compress='deflate', tiled=True), **options)
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=height,
        width=width,
        count=1,
        dtype='uint8',
        sparse_ok=True,
        bigtiff='yes',
        **options,
    ):
        pass
    return path


def test_png_bombs_are_refused(tmp_path):
    path = png_bomb(tmp_path / 'bomb.png', 225000, 225000)
    assert path.stat().st_size < 2000
    with pytest.raises(
        RasterError,
        match=r'bomb\.png: .*claims an image .*225000 x 225000 pixels.*4295 '
        f'megapixels.*raise .*{MAX_PIXELS} .now 4294967296.*TILED=YES',
    ):
        open_raster(path)


def test_the_limit_can_be_raised(tmp_path, monkeypatch):
    path = tmp_path / 'image.png'
    Image.new('L', (40, 30)).save(path)
    monkeypatch.setenv(MAX_PIXELS, '1199')
    with pytest.raises(RasterError, match='30 x 40 pixels'):
        open_raster(path)
    monkeypatch.setenv(MAX_PIXELS, '1200')
    assert open_raster(path).shape == (30, 40)
    monkeypatch.setenv(MAX_PIXELS, 'all')
    with pytest.raises(ValueError, match=f"{MAX_PIXELS}='all': expected"):
        open_raster(path, (1, 1))


def test_tiled_files_may_have_any_size(tmp_path):
    path = sparse_tiff(tmp_path / 'large.tif', 300000, 300000)
    raster = open_raster(path)
    assert not raster.read((250000, 250000, 64, 64)).any()


def test_large_blocks_are_refused(tmp_path):
    side = 2**15
    path = sparse_tiff(
        tmp_path / 'block.tif', side, side, blockxsize=side, blockysize=side
    )
    with pytest.raises(
        RasterError,
        match=r'claims a block of 32768 x 32768.*268 meg.*a block may have 1/',
    ):
        open_raster(path)


def test_rows_that_no_memory_holds_are_refused(tmp_path):
    path = sparse_tiff(tmp_path / 'wide.tif', 1024, 2**31 - 1)
    rows = RowBuffer(open_raster(path), 512)
    with pytest.raises(RasterError, match=r'wide\.tif: \d+ rows of it need'):
        rows.read((0, 0, 512, 512))
    # One window by itself is nothing.
    assert open_raster(path).read((0, 0, 512, 512)).shape == (512, 512, 1)


def write_vrt(path, source, is_relative=True):
    """Write a VRT of one band that shows one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f'<SourceFilename relativeToVRT="{int(is_relative)}">{source}'
    path.write_text(f"""
<VRTDataset rasterXSize="4" rasterYSize="4">
  <SRS>EPSG:32633</SRS>
  <Metadata><MDI key="about">https://example.org/a</MDI></Metadata>
  <VRTRasterBand dataType="Byte" band="1">
    <SimpleSource>
      {name}</SourceFilename>
      <SourceBand>1</SourceBand>
    </SimpleSource>
  </VRTRasterBand>
</VRTDataset>""")
    return path


@pytest.fixture
def folder(tmp_path):
    """Path: of scenes, next to a file that is none of its own."""
    image = np.full((4, 4), 7, np.uint8)
    write_geotiff(tmp_path / 'scenes' / 'a.tif', image)
    write_geotiff(tmp_path / 'secret.tif', image)
    return tmp_path / 'scenes'


def test_vrts_of_their_own_folder_are_scenes(folder):
    vrt = write_vrt(folder / 'b.vrt', 'a.tif')
    write_vrt(folder / 'c.vrt', folder / 'a.tif', is_relative=False)
    names = [scene.name for scene in find_scenes(folder)]
    assert names == [str(folder / f'{n}') for n in ('a.tif', 'b.vrt', 'c.vrt')]
    assert (open_raster(vrt).read() == 7).all()


@pytest.mark.parametrize(
    'source, is_relative',
    [
        ('../secret.tif', True),
        ('sub/../../secret.tif', True),
        ('{secret}', False),
        ('{secret}', True),
        ('/vsicurl/http://127.0.0.1:1/a.tif', False),
        ('http://127.0.0.1:1/a.tif', True),
        ('GTIFF_DIR:1:{secret}', False),
        ('&lt;VRTDataset/&gt;', False),
        ('absent.tif', True),
    ],
)
@pytest.mark.parametrize('name', ['b.vrt', 'b.tif'])
def test_vrts_that_lead_elsewhere_are_refused(
    folder, source, is_relative, name
):
    source = source.format(secret=folder.parent / 'secret.tif')
    path = write_vrt(folder / name, source, is_relative)
    for inputs in (folder, f'{folder}/b*'):
        with pytest.raises(
            RasterError, match=rf'{name}: .*makes GDAL read .*name it yourself'
        ):
            find_scenes(inputs)
    # Whoever names it has been asked.
    assert [s.name for s in find_scenes(path)] == [str(path)]
    assert len(find_scenes([path, folder / 'a.tif'])) == 2


def test_nested_vrts_are_followed(folder):
    write_vrt(folder / 'inner' / 'x.vrt', '../../secret.tif')
    path = write_vrt(folder / 'b.vrt', 'inner/x.vrt')
    with pytest.raises(RasterError, match=r"b\.vrt.*'\.\./\.\./secret\.tif'"):
        check_sources(path)
    # Two that show each other are GDAL's to refuse.
    write_vrt(folder / 'inner' / 'x.vrt', '../b.vrt')
    check_sources(path)


@pytest.mark.parametrize(
    'text, problem',
    [
        ('<GDAL_WMS><Service name="TMS"/></GDAL_WMS>', 'describes a GDAL_WMS'),
        ('x<VRTDataset></VRTDataset>', 'no VRT'),
        ('<VRTDataset>', 'no VRT'),
        ('{"stac_version": "1.0.0"}', 'no VRT'),
    ],
)
def test_descriptions_of_services_are_no_scenes(folder, text, problem):
    (folder / 'b.tif').write_text(text)
    with pytest.raises(RasterError, match=rf'b\.tif.*{problem}'):
        find_scenes(folder)


def test_lists_write_inside_the_folder_only(folder, tmp_path):
    listed = tmp_path / 'list.txt'
    listed.write_text(f'{folder}/../secret.tif\n{folder}/a.tif\n')
    out = tmp_path / 'maps'
    assert [scene.out for scene in find_scenes(listed, out)] == [
        out / 'secret.tif',
        out / 'a.tif',
    ]


FUZZ = """
import resource, sys, zlib
from pathlib import Path

import numpy as np

from mmseg_uhr.rasters import FileRaster, RasterError, RowBuffer

resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
resource.setrlimit(resource.RLIMIT_CPU, (150, 150))
sample, damaged = map(Path, sys.argv[1:])
whole = sample.read_bytes()
rng = np.random.default_rng(0)
opened = refused = 0


def read(content):
    global opened, refused
    damaged.write_bytes(content)
    try:
        raster = FileRaster(damaged)
        raster.read((0, 0, 40, 40))
        RowBuffer(raster, 16).read((0, 0, 16, 16))
        raster.read_mask((0, 0, min(8, raster.shape[0]), 1))
        opened += 1
    except RasterError as error:
        assert str(damaged) in str(error), error
        refused += 1


for length in sorted({*range(0, min(len(whole), 600), 13), len(whole) - 1}):
    read(whole[:length])
for _ in range(250):
    content = bytearray(whole)
    # Headers decide how much is allocated.
    end = len(content) if rng.random() < 0.3 else min(len(content), 400)
    for place in rng.integers(0, end, rng.integers(1, 5)):
        content[place] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
    if sample.suffix == '.png':
        # Of the header, else nothing comes past its checksum.
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, 'big')
    read(bytes(content))
print(opened, refused)
"""


@pytest.mark.parametrize('kind', ['tiled.tif', 'strip.tif', 'png', 'jpg'])
def test_damaged_files_open_or_are_refused(tmp_path, kind):
    """In a process of its own, whose memory and time have a limit."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (48, 64, 3), np.uint8)
    sample = tmp_path / f'sample.{kind}'
    if kind == 'tiled.tif':
        write_geotiff(sample, image)
    else:
        options = dict(compression='tiff_lzw') if 'tif' in kind else {}
        Image.fromarray(image).save(sample, **options)
    result = subprocess.run(
        [sys.executable, '-c', FUZZ, sample, tmp_path / f'damaged.{kind}'],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    opened, refused = map(int, result.stdout.split()[-2:])
    # Both happen, or nothing was tried.
    assert opened > 0
    assert refused > 40
