"""The converters, on tiny downloads in the official layouts."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmseg_uhr.datasets.converters import (
    DATA_SETS,
    Colours,
    ConversionError,
    Values,
    convert,
    summary,
)
from mmseg_uhr.rasters import open_raster, write_geotiff

ROOT = Path(__file__).resolve().parents[2]
BASES = ROOT / 'configs/_base_/datasets'
TOOL = ROOT / 'tools/dataset_converters/convert.py'
SHAPE = 40, 56
# Official ids of Cityscapes' classes in the order of train ids.
CITY_IDS = np.array(
    [7, 8, 11, 12, 13, 17, 19, 20, 21, 22]
    + [23, 24, 25, 26, 27, 28, 31, 32, 33]
)


def in_colour(name, black=False):
    """Encode ids in the palette; ignored pixels, if any, are black."""
    palette = np.array(DATA_SETS[name].palette, np.uint8)

    def encode(ids):
        rgb = palette[np.where(ids == 255, 0, ids)]
        if black:
            rgb[ids == 255] = 0
        else:
            ids[ids == 255] = 0
        return rgb

    return encode


def from_one(ids):
    """Encode ids from 1, 0 where ignored."""
    return np.where(ids == 255, 0, ids + 1).astype(np.uint8)


def as_is(ids):
    """Keep ids; nothing is ignored."""
    ids[ids == 255] = 0
    return ids


def in_white(ids):
    """Encode two classes as 0 and 255."""
    ids[ids == 255] = 0
    return ids * np.uint8(255)


def instances(ids):
    """Number the pixels of the second class, as if they were objects."""
    ids[ids == 255] = 0
    return ids * np.arange(1, 57).astype(np.uint8)


def city(ids):
    """Encode train ids as official ids; -1 cannot be, 4 is ignored."""
    return np.where(ids == 255, 4, CITY_IDS[np.where(ids == 255, 0, ids)])


# Name -> (image, label, how labels are coded, splits as in the files).
THREE = ('train', 'val', 'test')
LAYOUTS = {
    'deepglobe': (
        'land-train/{n}_sat.jpg',
        'land-train/{n}_mask.png',
        in_colour('deepglobe'),
        THREE,
    ),
    'inria': (
        'AerialImageDataset/train/images/austin{n}.tif',
        'AerialImageDataset/train/gt/austin{n}.tif',
        in_white,
        THREE,
    ),
    'cityscapes': (
        'leftImg8bit/{split}/ulm/ulm_{n}_leftImg8bit.png',
        'gtFine/{split}/ulm/ulm_{n}_gtFine_labelIds.png',
        city,
        THREE[:2],
    ),
    'urur': (
        '{split}/image/{n}.png',
        '{split}/label/{n}.png',
        in_colour('urur'),
        THREE,
    ),
    'fbp': (
        'Image_16bit_BGRNir/GF2_{n}.tiff',
        'Annotation__index/GF2_{n}_24label.png',
        from_one,
        THREE,
    ),
    'fbp-8bit': (
        'Image__8bit_NirRGB/GF2_{n}.tif',
        'Annotation__index/GF2_{n}_24label.png',
        from_one,
        THREE,
    ),
    'gid5': (
        'image_RGB/GF2_{n}.tif',
        'label_5classes/GF2_{n}_label.tif',
        in_colour('gid5', black=True),
        THREE,
    ),
    'gid15': (
        'gid-15/GID/img_dir/{split}/GF2_{n}.tif',
        'gid-15/GID/ann_dir/{split}/GF2_{n}_15label.png',
        from_one,
        THREE[:2],
    ),
    'uavid': (
        'uavid_{split}/seq{n}/Images/000100.png',
        'uavid_{split}/seq{n}/Labels/000100.png',
        in_colour('uavid'),
        THREE[:2],
    ),
    'udd6': (
        'UDD6/{split}/src/DJI_{n}.JPG',
        'UDD6/{split}/gt/DJI_{n}.png',
        as_is,
        THREE[:2],
    ),
    'vdd': (
        'VDD/{split}/src/DJI_{n}.JPG',
        'VDD/{split}/gt/DJI_{n}.png',
        as_is,
        THREE,
    ),
    'isic': (
        'ISIC2018_Task1-2_{split}_Input/ISIC_{n:07}.jpg',
        'ISIC2018_Task1_{split}_GroundTruth/ISIC_{n:07}_segmentation.png',
        in_white,
        ('Training', 'Validation', 'Test'),
    ),
    'crag': (
        'CRAG/{split}/Images/{split}_{n}.png',
        'CRAG/{split}/Annotation/{split}_{n}.png',
        instances,
        ('train', 'valid'),
    ),
    'loveda': (
        '{split}/Rural/images_png/{n}.png',
        '{split}/Rural/masks_png/{n}.png',
        from_one,
        ('Train', 'Val'),
    ),
    'potsdam': (
        '2_Ortho_RGB/top_potsdam_{tile}_RGB.tif',
        '5_Labels_all/top_potsdam_{tile}_label.tif',
        in_colour('potsdam'),
        ('2_10', '2_13'),
    ),
    'potsdam-eroded': (
        '2_Ortho_RGB/top_potsdam_{tile}_RGB.tif',
        'noBoundary/top_potsdam_{tile}_label_noBoundary.tif',
        in_colour('potsdam', black=True),
        ('2_10', '2_13'),
    ),
    'vaihingen': (
        'top/top_mosaic_09cm_area{tile}.tif',
        'gts_for_participants/top_mosaic_09cm_area{tile}.tif',
        in_colour('vaihingen'),
        ('1', '2'),
    ),
    'vaihingen-eroded': (
        'top/top_mosaic_09cm_area{tile}.tif',
        'eroded/top_mosaic_09cm_area{tile}_noBoundary.tif',
        in_colour('vaihingen', black=True),
        ('1', '2'),
    ),
}
# The field's lists name hundreds of images; these sets come without any.
LISTED = ('deepglobe', 'inria', 'fbp', 'fbp-8bit', 'gid5')


def write(path, array):
    """Write an array (H, W[, 3]) in the format of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in ('.tif', '.tiff'):
        write_geotiff(path, array)
    else:
        array = array[..., ::-1] if array.ndim == 3 else array
        assert cv2.imwrite(str(path), array)


class Download:
    """A tiny download.

    Attributes:
        folder: Where it lies.
        lists: Folder of split lists, for sets that need one.
        images, ids: Path or name of a scene -> what it should become.
    """

    def __init__(self, name, folder, count=1, shape=SHAPE):
        self.name, self.folder, self.lists = name, folder, None
        self.files = []
        image, label, encode, splits = LAYOUTS[name]
        spec, rng = DATA_SETS[name], np.random.default_rng(0)
        self.images, self.ids, n = {}, {}, 100
        names = {}
        for split in splits:
            for _ in range(count):
                n += 1
                fields = dict(n=n, split=split, tile=split)
                path = folder / image.format(**fields)
                bands = 4 if name.startswith('fbp') else 3
                dtype, top = np.uint8, 255
                if name == 'fbp':
                    dtype, top = np.uint16, 1023
                pixels = rng.integers(1, top, (*shape, bands), dtype)
                ids = rng.integers(0, len(spec.classes), shape, np.uint8)
                ids[5:9, 5:9] = 255
                write(path, pixels)
                mask = folder / label.format(**fields)
                write(mask, encode(ids).astype(np.uint8))
                scene, _ = spec.match(spec.images, f'/{path}')
                key = split if name not in LISTED else split
                names.setdefault(key, []).append(scene)
                scene = scene.split('/')[-1]
                self.images[scene], self.ids[scene] = pixels, ids
                self.files.append((path, mask))
        if name in LISTED:
            self.lists = folder.parent / 'lists'
            self.lists.mkdir()
            for split, entries in names.items():
                text = '\n'.join(entries) + '\n'
                (self.lists / f'{split}.txt').write_text(text)

    @property
    def spec(self):
        """The description, without counts and sizes of the real download."""
        return replace(DATA_SETS[self.name], counts={}, sizes=())

    def convert(self, out, sources=None, **options):
        options = dict(split_lists=self.lists) | options
        return convert(self.spec, sources or [self.folder], out, **options)


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def download(tmp_path):
    """Callable: build a tiny download of a data set."""

    def build(name, **options):
        return Download(name, tmp_path / 'download', **options)

    return build


def scene_of(path, spec):
    """Return the scene of a converted file."""
    end = spec.label_out.rpartition('{scene}')[2]
    return Path(path).stem.removesuffix(end)


def test_every_set_has_a_layout():
    assert set(LAYOUTS) == set(DATA_SETS)


@pytest.mark.parametrize('name', LAYOUTS)
def test_download_is_read_by_its_base_config(name, download, tmp_path):
    """Pixels and ids arrive through the real data set and pipelines."""
    data = download(name)
    base = name.replace('-eroded', '').replace('-', '_')
    cfg = Config.fromfile(BASES / f'{base}.py')
    out = tmp_path / 'out'
    report = data.convert(out)
    seen = set()
    for split in ('train', 'val', 'test'):
        settings = cfg[f'{split}_dataloader']
        settings.update(num_workers=0, persistent_workers=False, batch_size=1)
        settings.dataset.data_root = str(out)
        if name in ('deepglobe', 'inria'):
            settings.dataset.pop('split')
            settings.dataset.ann_file = f'splits/{split}.txt'
        loader = Runner.build_dataloader(settings, seed=0)
        assert len(loader.dataset) == 1
        batch = next(iter(loader))
        image, sample = batch['inputs'][0], batch['data_samples'][0]
        if split == 'train':
            # As large as the scene, which is smaller than a crop.
            assert image.shape == (3, *SHAPE)
            continue
        scene = scene_of(sample.seg_map_path, data.spec)
        ids = sample.gt_sem_seg.data[0].numpy()
        np.testing.assert_array_equal(ids, data.ids[scene])
        seen.add(scene)
        pixels = image.read()[..., ::-1]
        expected = data.images[scene]
        if name == 'fbp':
            expected = expected[..., 2::-1] / 1023 * 255
            assert np.abs(pixels - expected).max() <= 1
        elif name == 'fbp-8bit':
            np.testing.assert_array_equal(pixels, expected[..., 1:])
        elif not sample.img_path.endswith('.tif') or data.files[0][
            0
        ].suffix in ('.png', '.tif'):
            np.testing.assert_array_equal(pixels, expected)
        else:
            with rasterio.open(_source_of(data, scene)) as dataset:
                decoded = dataset.read().transpose(1, 2, 0)
            np.testing.assert_array_equal(pixels, decoded)
    assert seen
    counts = sum(s['scenes'] for s in report['splits'].values())
    assert counts == len(data.files)
    total = sum(sum(s['pixels'].values()) for s in report['splits'].values())
    assert total == counts * SHAPE[0] * SHAPE[1]
    assert json.loads((out / 'report.json').read_text()) == json.loads(
        json.dumps(report)
    )
    assert str(out) in summary(report, out)


def _source_of(data, scene):
    """Return the image file of a scene."""
    for image, _ in data.files:
        if data.spec.match(data.spec.images, f'/{image}')[0] == scene:
            return image
    raise KeyError(scene)


def pack(folder, archive):
    """Make an archive of a folder, without its own name."""
    paths = sorted(p for p in folder.rglob('*') if p.is_file())
    if archive.suffix == '.zip':
        with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as file:
            for path in paths:
                file.write(path, path.relative_to(folder).as_posix())
            file.writestr('__MACOSX/._junk_sat.jpg', b'')
    else:
        mode = 'w:gz' if archive.name.endswith('.gz') else 'w'
        with tarfile.open(archive, mode) as file:
            for path in paths:
                file.add(path, './' + path.relative_to(folder).as_posix())
    return archive


@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz'])
@pytest.mark.parametrize('jobs', [1, 2])
def test_archives_give_the_same_as_folders(kind, jobs, download, tmp_path):
    data = download('crag', count=3)
    data.convert(tmp_path / 'folder')
    archive = pack(data.folder, tmp_path / f'CRAG_v2.{kind}')
    out = tmp_path / 'packed'
    data.convert(out, [archive], jobs=jobs)
    for split in ('train', 'test'):
        for kind in ('img_dir', 'ann_dir'):
            for path in (tmp_path / 'folder' / kind / split).iterdir():
                other = out / kind / split / path.name
                same = open_raster(path).read() == open_raster(other).read()
                assert same.all()
    assert not (out / '.staging').exists()


def test_folder_of_archives(download, tmp_path):
    data = download('isic')
    packed = tmp_path / 'packed'
    packed.mkdir()
    for folder in data.folder.iterdir():
        pack(folder, packed / f'{folder.name}.zip')
    report = data.convert(tmp_path / 'out', [packed])
    assert {k: s['scenes'] for k, s in report['splits'].items()} == dict(
        train=1, val=1, test=1
    )


def test_finished_files_are_kept(download, tmp_path):
    data, out = download('urur', count=2), tmp_path / 'out'
    assert data.convert(out)['files_converted_now'] == 12
    assert data.convert(out)['files_converted_now'] == 0
    # A changed source, a damaged result, and one that is gone.
    image, mask = data.files[0]
    shutil.copy(data.files[1][1], mask)
    labels = sorted((out / 'ann_dir/val').iterdir())
    labels[0].write_bytes(b'damaged')
    labels[1].unlink()
    assert data.convert(out)['files_converted_now'] == 3
    ids = open_raster(labels[1]).read()[..., 0]
    np.testing.assert_array_equal(ids, data.ids[labels[1].stem])
    # Another way to decode.
    values = Colours(data.spec.decoder.colours, tolerance=2)
    assert data.convert(out, decoder=values)['files_converted_now'] == 6


def test_goes_on_after_a_kill(download, tmp_path):
    data = download('vdd', count=6, shape=(900, 1200))
    out = tmp_path / 'out'
    argv = [sys.executable, str(TOOL), 'vdd', str(data.folder)]
    argv += ['--out', str(out), '--jobs', '1', '--skip']
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    journal = out / '.convert.jsonl'
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if journal.is_file() and journal.read_text().count('\n') > 3:
            break
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / 'report.json').exists()
    done = journal.read_text().count('"file"')
    assert 0 < done < 36
    report = data.convert(out, strict=False)
    assert report['files'] == 36
    assert report['files_converted_now'] == 36 - done
    for split in ('train', 'val', 'test'):
        for path in (out / 'ann_dir' / split).iterdir():
            ids = open_raster(path).read()[..., 0]
            np.testing.assert_array_equal(ids, data.ids[path.stem])
    left = [p for p in out.rglob('*') if p.name.endswith('.partial')]
    assert not left


class Finished:
    """What a run of the tool in this process left."""

    def __init__(self, capsys, *arguments):
        self.returncode, error = 0, ''
        saved = sys.argv
        sys.argv = [str(TOOL), *map(str, arguments)]
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as stop:
            self.returncode = 1 if isinstance(stop.code, str) else stop.code
            error = stop.code if isinstance(stop.code, str) else ''
        finally:
            sys.argv = saved
        printed = capsys.readouterr()
        self.stdout, self.stderr = printed.out, printed.err + error


@pytest.fixture
def run_tool(capsys):
    """Callable: run the tool in this process, which spares the start-up."""
    return partial(Finished, capsys)


def test_tool_converts_cityscapes(download, tmp_path, run_tool):
    data = download('cityscapes', shape=(1024, 2048))
    out = tmp_path / 'out'
    # Of 2975 images there is one.
    failed = run_tool('cityscapes', data.folder, '--out', out)
    assert failed.returncode == 1
    assert 'train (1 scenes instead of 2975)' in failed.stderr
    assert '--skip' in failed.stderr
    assert not out.exists()
    done = run_tool('cityscapes', data.folder, '--out', out, '--skip')
    assert done.returncode == 0, done.stderr
    assert 'train: 1 scenes, val: 1 scenes' in done.stdout
    names = {p.relative_to(out).as_posix() for p in out.rglob('*.png')}
    assert names == {
        f'{kind}/{split}/ulm/ulm_{n}_{end}.png'
        for split, n in (('train', 101), ('val', 102))
        for kind, end in (
            ('leftImg8bit', 'leftImg8bit'),
            ('gtFine', 'gtFine_labelTrainIds'),
        )
    }
    # Images are second names of the official files.
    name = 'leftImg8bit/train/ulm/ulm_101_leftImg8bit.png'
    assert os.path.samefile(out / name, data.folder / name)


def test_tool_tells_the_layout(run_tool):
    help_text = run_tool('inria', '--help').stdout
    assert 'AerialImageDataset/train/{images,gt}' in ' '.join(
        help_text.split()
    )


def test_labels_may_hold_other_values(download, tmp_path, run_tool):
    # URUR as ids with others last, as some re-implementations have it.
    data = download('urur')
    _, mask = data.files[0]
    ids = data.ids['101']
    write(mask, np.where(ids == 0, 7, ids - 1).astype(np.uint8))
    for _, other in data.files[1:]:
        write(other, np.full(SHAPE, 3, np.uint8))
    with pytest.raises(ConversionError, match='--label-values'):
        data.convert(tmp_path / 'out')
    names = data.spec.classes
    values = ','.join(f'{n}={(i - 1) % 8}' for i, n in enumerate(names))
    done = run_tool(
        *('urur', data.folder, '--out', tmp_path / 'out', '--skip'),
        *('--label-values', values),
    )
    # Of 5120 x 5120 is none, but that has only to be said.
    assert done.returncode == 0, done.stderr
    found = open_raster(tmp_path / 'out/ann_dir/train/101.tif').read()[..., 0]
    np.testing.assert_array_equal(found, ids)
    bad = run_tool('urur', data.folder, '--label-values', 'road=1')
    assert 'missing' in bad.stderr
    assert 'farmland' in bad.stderr
    for value in ('road', '0', '70000'):
        wrong = ','.join(f'{n}={i}' for i, n in enumerate(names[:-1]))
        wrong += f',{names[-1]}={value}'
        bad = run_tool('urur', data.folder, '--label-values', wrong)
        assert 'a whole number of its own, at most 65535' in bad.stderr


def test_images_without_random_access_are_tiled(download, tmp_path):
    data = download('deepglobe')
    image, mask = data.files[0]
    write(image, np.zeros((2100, 2100, 3), np.uint8))
    write(mask, np.zeros((2100, 2100, 3), np.uint8))
    for name, tile in (('auto', None), ('no', False), ('yes', True)):
        out = tmp_path / name
        report = data.convert(out, tile_images=tile)
        suffix = '.jpg' if name == 'no' else '.tif'
        assert report['image_suffix'] == suffix
        for source, _ in data.files:
            path = out / 'img_dir' / f'{source.stem[:-4]}{suffix}'
            linked = os.path.samefile(path, source)
            assert linked == (name == 'no')
            with rasterio.open(path) as dataset:
                assert dataset.driver == ('JPEG' if linked else 'GTiff')
            assert linked or open_raster(path).random_access
    labels = open_raster(tmp_path / 'no/ann_dir/101.tif')
    assert labels.random_access
    # Both kinds in one folder are not what anybody wants.
    report = data.convert(tmp_path / 'no')
    assert 'img_dir/101.jpg' in report['warnings'][0]


@pytest.mark.parametrize(
    'compress, tiled, linked',
    [
        (None, False, True),
        ('deflate', False, False),
        ('deflate', True, True),
        (None, True, True),
    ],
)
def test_tiffs_are_linked_if_windows_can_be_read(
    compress, tiled, linked, download, tmp_path
):
    data = download('inria')
    pixels = np.random.default_rng(1).integers(
        0, 255, (3, 2100, 2100), np.uint8
    )
    image, mask = data.files[0]
    with rasterio.open(
        image,
        'w',
        driver='GTiff',
        height=2100,
        width=2100,
        count=3,
        dtype='uint8',
        compress=compress,
        tiled=tiled,
        crs='EPSG:32633',
        transform=rasterio.Affine(0.3, 0, 5e5, 0, -0.3, 5e6),
    ) as dataset:
        dataset.write(pixels)
    write(mask, np.zeros((2100, 2100), np.uint8))
    out = tmp_path / 'out'
    data.convert(out)
    path = out / 'img_dir/austin101.tif'
    assert os.path.samefile(path, image) == linked
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels)
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform.a == 0.3


def noisy(data, share):
    """Give a share of a mask's pixels a colour that is none."""
    _, mask = data.files[0]
    rgb = cv2.imread(str(mask))[..., ::-1].copy()
    count = round(share * SHAPE[0] * SHAPE[1])
    rgb.reshape(-1, 3)[:count] = 77, 77, 77
    write(mask, rgb)
    return mask, count


def test_few_strange_colours_are_ignored_and_counted(download, tmp_path):
    data = download('urur')
    mask, count = noisy(data, 0.0009)
    report = data.convert(tmp_path / 'out')
    assert report['unmatched_pixels'] == count == 2
    assert report['files_with_unmatched_pixels'] == {str(mask): 2}
    ids = open_raster(tmp_path / 'out/ann_dir/train/101.tif').read()[..., 0]
    assert (ids.reshape(-1)[:2] == 255).all()
    np.testing.assert_array_equal(
        ids.reshape(-1)[2:], data.ids['101'].reshape(-1)[2:]
    )


def test_many_strange_colours_are_an_error(download, tmp_path):
    data = download('urur')
    mask, count = noisy(data, 0.5)
    with pytest.raises(ConversionError) as error:
        data.convert(tmp_path / 'out')
    message = str(error.value)
    assert str(mask) in message
    assert f'{count} of 2240 pixels (50.00%)' in message
    assert '[77, 77, 77]' in message
    assert '[0, 0, 0], [230, 230, 230], [95, 163, 7], ...' in message
    # The scene is left out as a whole, and the report says so.
    report = data.convert(tmp_path / 'out', strict=False)
    assert 'train' not in report['splits']
    assert not list((tmp_path / 'out').rglob('101.*'))
    (skipped,) = report['skipped']
    assert skipped['file'] == str(mask)
    assert '77' in skipped['reason']


def test_noise_of_compression_is_thresholded(download, tmp_path):
    data = download('deepglobe')
    for _, mask in data.files:
        rgb = cv2.imread(str(mask)).astype(int)
        rgb += np.random.default_rng(3).integers(-90, 90, rgb.shape)
        assert cv2.imwrite(str(mask), rgb.clip(0, 255).astype(np.uint8))
    data.convert(tmp_path / 'out')
    for name, expected in data.ids.items():
        path = tmp_path / f'out/ann_dir/{name}.tif'
        np.testing.assert_array_equal(
            open_raster(path).read()[..., 0], expected
        )


def test_masks_with_a_palette_are_coloured(download, tmp_path):
    from PIL import Image

    data = download('urur')
    # The order of the file's palette is not that of the classes.
    order = np.array([3, 1, 4, 0, 5, 7, 6, 2], np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    palette[order] = data.spec.palette
    for (_, mask), ids in zip(data.files, data.ids.values()):
        image = Image.fromarray(order[ids], 'P')
        image.putpalette(palette.reshape(-1).tolist())
        image.save(mask)
    data.convert(tmp_path / 'out')
    ids = open_raster(tmp_path / 'out/ann_dir/val/102.tif').read()[..., 0]
    np.testing.assert_array_equal(ids, data.ids['102'])


@pytest.mark.parametrize(
    'name, label, said',
    [
        # Ids where colours are expected, and the reverse.
        ('urur', np.full(SHAPE, 3, np.uint8), 'values such as [3]'),
        (
            'udd6',
            np.full((*SHAPE, 3), 9, np.uint8),
            'has 3 bands, so it seems to be a coloured mask, but one band of '
            'the values 0-5 was expected',
        ),
        # Beyond the classes.
        (
            'udd6',
            np.full(SHAPE, 9, np.uint8),
            '2240 of 2240 pixels (100.00%) hold none of 0-5; the first '
            'others: 9',
        ),
        # Converted already: thresholding would make it all background.
        ('isic', np.ones(SHAPE, np.uint8), 'none of 0, 255'),
        # Another size than the image.
        (
            'vdd',
            np.zeros((8, 8), np.uint8),
            'label files of another size than the image',
        ),
    ],
)
def test_wrong_labels(name, label, said, download, tmp_path):
    data = download(name)
    _, mask = data.files[-1]
    write(mask, label)
    with pytest.raises(ConversionError) as error:
        data.convert(tmp_path / 'out')
    assert said in str(error.value)
    assert str(mask) in str(error.value)
    report = data.convert(tmp_path / 'out', strict=False)
    assert len(report['skipped']) == 1
    total = sum(s['scenes'] for s in report['splits'].values())
    assert total == len(data.files) - 1
    assert report['files'] == 2 * total


def test_missing_halves(download, tmp_path):
    data = download('vdd', count=5)
    for image, _ in data.files[:4]:
        image.unlink()
    data.files[5][1].unlink()
    with pytest.raises(ConversionError) as error:
        data.convert(tmp_path / 'out')
    message = str(error.value)
    assert '1 images without a label file: ' in message
    assert str(data.files[5][0]) in message
    assert '4 label files without an image: ' in message
    assert message.count('DJI_10') == 4
    assert ', ...' in message
    report = data.convert(tmp_path / 'out', strict=False)
    scenes = {k: s['scenes'] for k, s in report['splits'].items()}
    assert scenes == dict(train=1, val=4, test=5)
    assert len(report['skipped']) == 5


def test_all_labels_missing(download, tmp_path):
    data = download('vdd')
    for _, mask in data.files:
        mask.unlink()
    with pytest.raises(ConversionError, match=r'no label files.*train'):
        data.convert(tmp_path / 'out')


def test_wrong_download(download, tmp_path):
    data = download('uavid')
    with pytest.raises(ConversionError) as error:
        convert(DATA_SETS['cityscapes'], [data.folder], tmp_path / 'out')
    message = str(error.value)
    assert 'no images found' in message
    assert 'which hold 4 files: download/uavid_train/seq101' in message
    assert 'gtFine/{train,val}' in message
    assert 'This looks like: uavid' in message


def test_mixed_sizes(download, tmp_path):
    data = download('inria', count=2)
    image, mask = data.files[0]
    write(image, np.zeros((16, 24, 3), np.uint8))
    write(mask, np.zeros((16, 24), np.uint8))
    spec = replace(data.spec, sizes=(SHAPE,))
    with pytest.raises(ConversionError) as error:
        convert(spec, [data.folder], tmp_path / 'out', split_lists=data.lists)
    assert '1 images of another size than expected' in str(error.value)
    assert f'{image} (24 x 16 instead of 56 x 40)' in str(error.value)
    unsure = replace(spec, certain=False)
    report = convert(
        unsure, [data.folder], tmp_path / 'out', split_lists=data.lists
    )
    assert '24 x 16 instead of 56 x 40' in report['warnings'][0]
    assert report['sizes'] == {'56 x 40': 5, '24 x 16': 1}


def test_lists_name_what_is_not_there(download, tmp_path):
    data = download('gid5')
    with open(data.lists / 'val.txt', 'a') as file:
        file.write('GF2_7\nGF2_101.tif\n')
    with pytest.raises(ConversionError) as error:
        data.convert(tmp_path / 'out')
    message = str(error.value)
    assert '1 entries of split lists without files: GF2_7 (val)' in message
    assert 'duplicate ids in split lists: GF2_101 (val, train)' in message
    report = data.convert(tmp_path / 'out', strict=False)
    assert 'ann_file' in report['warnings'][-1]
    # What is measured on is not trained on.
    assert (tmp_path / 'out/splits/val.txt').read_text() == (
        'GF2_102\nGF2_101\n'
    )
    assert 'train' not in report['splits']


def test_official_lists_are_complete_or_an_error(download, tmp_path):
    data = download('deepglobe')
    with pytest.raises(ConversionError) as error:
        convert(data.spec, [data.folder], tmp_path / 'out')
    assert '803 entries of split lists without files' in str(error.value)
    changed = replace(data.spec, list_md5=dict(train='0' * 32))
    with pytest.raises(ConversionError, match='deepglobe_train.txt has chan'):
        convert(changed, [data.folder], tmp_path / 'out')


def test_scenes_outside_the_lists_are_named(download, tmp_path):
    data = download('inria')
    (data.lists / 'test.txt').unlink()
    report = data.convert(tmp_path / 'out')
    assert 'austin103' in report['warnings'][0]
    assert set(report['splits']) == {'train', 'val'}


def test_lists_do_not_choose_among_images_of_one_name(download, tmp_path):
    data = download('udd6')
    (train, train_mask), (val, val_mask) = data.files
    lists = tmp_path / 'lists'
    lists.mkdir()
    # Other splits than those of the folders.
    (lists / 'test.txt').write_text(f'{train.stem}\n')
    report = data.convert(tmp_path / 'one', split_lists=lists)
    assert {k: s['scenes'] for k, s in report['splits'].items()} == dict(
        test=1
    )
    write(val.with_name(train.name), np.zeros((*SHAPE, 3), np.uint8))
    # Without a label of its own this is no other scene.
    report = data.convert(tmp_path / 'half', split_lists=lists)
    np.testing.assert_array_equal(
        open_raster(tmp_path / 'half/img_dir/DJI_101.tif').read(),
        open_raster(train).read(),
    )
    shutil.copy(train_mask, val_mask.with_name(train_mask.name))
    with pytest.raises(ConversionError) as error:
        data.convert(tmp_path / 'two', split_lists=lists)
    assert 'name several images: DJI_101' in str(error.value)


def test_converting_in_place_loses_nothing(download):
    data = download('cityscapes', count=2)
    (image, mask), (good, _) = data.files[:2]
    before = image.read_bytes()
    write(mask, np.full(SHAPE, 99, np.uint8))
    report = data.convert(data.folder, strict=False)
    assert report['splits']['train']['scenes'] == 1
    assert image.read_bytes() == before
    assert good.exists()


def test_same_image_in_two_splits(download, tmp_path):
    data = download('udd6')
    train, val = (image for image, _ in data.files)
    copy = val.with_name(train.name)
    shutil.copy(train, copy)
    shutil.copy(data.files[0][1], data.files[1][1].with_name('DJI_101.png'))
    with pytest.raises(ConversionError) as error:
        data.convert(tmp_path / 'out')
    assert (
        '1 duplicate ids across splits: DJI_101 (the same image in val and '
        'train)'
    ) in str(error.value)
    report = data.convert(tmp_path / 'out', strict=False)
    assert {k: s['scenes'] for k, s in report['splits'].items()} == {'val': 2}
    # The same name of another image is none.
    write(copy, np.zeros((*SHAPE, 3), np.uint8))
    report = data.convert(tmp_path / 'other')
    assert {k: s['scenes'] for k, s in report['splits'].items()} == dict(
        train=1, val=2
    )


@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_same_image_in_two_splits_of_an_archive(kind, download, tmp_path):
    data = download('udd6')
    (train, train_mask), (val, val_mask) = data.files
    write(val.with_name(train.name), np.zeros((*SHAPE, 3), np.uint8))
    shutil.copy(train_mask, val_mask.with_name(train_mask.name))
    archive = pack(data.folder, tmp_path / f'different.{kind}')
    report = data.convert(tmp_path / 'out', [archive])
    assert report['splits']['val']['scenes'] == 2
    shutil.copy(train, val.with_name(train.name))
    archive = pack(data.folder, tmp_path / f'same.{kind}')
    with pytest.raises(ConversionError, match='duplicate ids across splits'):
        data.convert(tmp_path / 'out', [archive])


def test_tiles_that_the_field_does_not_use(download, tmp_path):
    data = download('vaihingen')
    _, mask = data.files[0]
    shutil.copy(mask, mask.with_name('top_mosaic_09cm_area9.tif'))
    report = data.convert(tmp_path / 'out')
    assert report['warnings'] == ['labels of no split are left out: area9']


def test_same_scene_twice(download, tmp_path):
    data = download('vdd')
    other = tmp_path / 'again'
    shutil.copytree(data.folder, other)
    with pytest.raises(ConversionError, match='3 scenes with several images'):
        data.convert(tmp_path / 'out', [data.folder, other])


def test_hidden_files_are_passed_over_but_not_hidden_sources(
    download, tmp_path
):
    data = download('vdd')
    (data.folder / '.trash').mkdir()
    image = data.files[0][0]
    shutil.copy(image, data.folder / '.trash' / image.name)
    folder = data.folder.rename(data.folder.parent / '.vdd')
    report = data.convert(tmp_path / 'out', [folder])
    assert sum(s['scenes'] for s in report['splits'].values()) == 3


def test_sources_that_cannot_be_read(download, tmp_path):
    data, out = download('vdd'), tmp_path / 'out'
    with pytest.raises(ConversionError, match='no such folder or archive'):
        data.convert(out, [tmp_path / 'absent'])
    for name in ('data.7z', 'data.7z.001', 'data.rar'):
        (tmp_path / name).write_bytes(b'7z')
        with pytest.raises(ConversionError, match='unpack it'):
            data.convert(out, [tmp_path / name])
    (tmp_path / 'broken.zip').write_bytes(b'PK no zip')
    with pytest.raises(ConversionError, match='cannot be read as an archive'):
        data.convert(out, [tmp_path / 'broken.zip'])
    (tmp_path / 'data.txt').write_text('x')
    with pytest.raises(ConversionError, match='expected a folder or'):
        data.convert(out, [tmp_path / 'data.txt'])
    with pytest.raises(ConversionError, match='jobs=0'):
        data.convert(out, jobs=0)


def test_damaged_files(download, tmp_path):
    data = download('vdd', count=2)
    image, mask = data.files[0]
    mask.write_bytes(mask.read_bytes()[:200])
    data.files[2][0].write_bytes(b'no image')
    with pytest.raises(ConversionError, match='truncated'):
        data.convert(tmp_path / 'out')
    report = data.convert(tmp_path / 'out', strict=False)
    assert len(report['skipped']) == 2
    assert {k: s['scenes'] for k, s in report['splits'].items()} == dict(
        train=1, val=1, test=2
    )


def test_damaged_member_of_a_zip(download, tmp_path):
    data = download('vdd')
    archive = pack(data.folder, tmp_path / 'vdd.zip')
    with zipfile.ZipFile(archive) as file:
        info = file.infolist()[0]
    content = bytearray(archive.read_bytes())
    content[info.header_offset + 90] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(ConversionError, match='damaged in the archive'):
        data.convert(tmp_path / 'out', [archive])


def test_disk_that_does_not_take_files_is_no_skipped_file(download, tmp_path):
    data, out = download('vdd'), tmp_path / 'out'
    # A file is where a folder is to be.
    out.mkdir()
    (out / 'ann_dir').write_text('')
    with pytest.raises(ConversionError, match='ann_dir'):
        data.convert(out, strict=False)


def test_images_of_two_suffixes(download, tmp_path):
    data = download('udd6')
    image, _ = data.files[0]
    image.rename(image.with_suffix('.png'))
    with pytest.raises(ConversionError, match='--tile-images yes'):
        data.convert(tmp_path / 'out', tile_images=False)


def test_colours_that_are_too_close(tmp_path):
    write(tmp_path / 'mask.png', np.zeros((*SHAPE, 3), np.uint8))
    close = Colours(((0, 0, 0), (10, 0, 0)), tolerance=5)
    with pytest.raises(ValueError, match='within the tolerance'):
        next(close.open(tmp_path / 'mask.png').read())


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int16, np.int32])
def test_values_of_any_integer_type(dtype, tmp_path):
    values = np.array([[0, 1, 2], [5, 5, 1]], dtype)
    write_geotiff(tmp_path / 'labels.tif', values)
    decoder = Values(((0, 255), (1, 0), (2, 1)), rest=3)
    ((_, ids),) = decoder.open(tmp_path / 'labels.tif').read()
    assert ids.tolist() == [[255, 0, 1], [3, 3, 0]]
    strict = Values(((0, 255), (1, 0), (2, 1)))
    reader = strict.open(tmp_path / 'labels.tif')
    with pytest.raises(ValueError, match='2 of 6 pixels.*others: 5'):
        list(reader.read())
    assert reader.unmatched == 2
