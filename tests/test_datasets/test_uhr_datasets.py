"""Folders, splits, classes and the dataset bases of the configs."""

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmseg_uhr.datasets import (
    BlueMarbleDataset,
    CityscapesUHRDataset,
    CRAGDataset,
    DeepGlobeDataset,
    FiveBillionPixelsDataset,
    GID5Dataset,
    GID15Dataset,
    InriaDataset,
    ISICDataset,
    LoveDAUHRDataset,
    PotsdamUHRDataset,
    UAVidDataset,
    UDD6Dataset,
    UHRDataset,
    URURDataset,
    VaihingenUHRDataset,
    VDDDataset,
)
from mmseg_uhr.rasters import Raster, RasterError, write_geotiff
from mmseg_uhr.registry import DATASETS

BASES = Path(__file__).resolve().parents[2] / 'configs/_base_/datasets'
FOLDERS = dict(img_path='images', seg_map_path='labels')
CLASSES = dict(classes=('water', 'land'), palette=[[0, 0, 255], [0, 255, 0]])
LOAD = [
    dict(type='mmseg_uhr.LoadRaster'),
    dict(type='mmseg_uhr.LoadLabelRaster'),
    dict(type='mmseg_uhr.PackUHRInputs'),
]


def write_pair(image: Path, labels: Path, num_classes: int = 2) -> None:
    """Write an image and its labels; PNG if the names say so."""
    pixels = np.random.randint(0, 255, (24, 24, 3), np.uint8)
    ids = np.random.randint(0, num_classes, (24, 24), np.uint8)
    for path, array in ((image, pixels), (labels, ids)):
        if path.suffix == '.png':
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), array)
        else:
            write_geotiff(path, array)


@pytest.fixture(autouse=True)
def _scope():
    """Names without a scope are stock mmseg's, as in training."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def root(tmp_path) -> Path:
    """Folder of a data set of three scenes, one in a folder of its own."""
    for name in ('b', 'a', 'more/c'):
        write_pair(
            tmp_path / 'images' / f'{name}.tif',
            tmp_path / 'labels' / f'{name}.tif',
        )
    return tmp_path


def make(root: Path, **kwargs) -> UHRDataset:
    """Build a data set of two classes."""
    kwargs = {'data_prefix': FOLDERS, 'metainfo': CLASSES, **kwargs}
    return UHRDataset(data_root=str(root), **kwargs)


def test_infos_name_files_and_bounds_of_the_ids(root):
    dataset = make(root)
    names = [
        Path(dataset[i]['img_path']).relative_to(root / 'images').as_posix()
        for i in range(len(dataset))
    ]
    assert names == ['a.tif', 'b.tif', 'more/c.tif']
    info = dataset.get_data_info(2)
    assert info['seg_map_path'] == str(root / 'labels/more/c.tif')
    assert info['num_classes'] == 2
    assert info['ignore_index'] == 255
    assert info['reduce_zero_label'] is False
    assert info['seg_fields'] == []


def test_bounds_follow_the_classes_in_use(root):
    class Three(UHRDataset):
        METAINFO = dict(classes=('a', 'b', 'c'), palette=[[0] * 3] * 3)

    dataset = Three(
        data_root=str(root),
        data_prefix=FOLDERS,
        metainfo=dict(classes=('c', 'a')),
        ignore_index=200,
    )
    info = dataset[0]
    assert info['num_classes'] == 2
    assert info['label_map'] == {0: 1, 1: 255, 2: 0}
    assert info['ignore_index'] == 200
    # Without known classes there is nothing to check ids against.
    assert 'num_classes' not in make(root, metainfo=None)[0]


def test_strange_ids_are_found_in_loading(root):
    write_geotiff(root / 'labels/a.tif', np.full((24, 24), 7, np.uint8))
    dataset = make(root, pipeline=LOAD)
    with pytest.raises(
        RasterError, match=r'a.tif: label ids \[7\].*2 classes'
    ):
        dataset[0]
    assert isinstance(dataset[1]['inputs'], Raster)


def test_a_list_chooses_scenes(root):
    (root / 'mine.txt').write_text('more/c\nb\n')
    dataset = make(root, ann_file='mine.txt')
    assert [Path(info['img_path']).stem for info in dataset] == ['c', 'b']


def test_images_need_no_labels_in_inference(root):
    dataset = make(root, data_prefix=dict(img_path='images'), pipeline=LOAD)
    assert len(dataset) == 3
    assert 'gt_sem_seg' not in dataset[0]['data_samples']


@pytest.mark.parametrize('key', ['img_path', 'seg_map_path'])
def test_missing_folder(root, key):
    with pytest.raises(FileNotFoundError) as error:
        make(root, data_prefix={**FOLDERS, key: 'absent'})
    message = str(error.value)
    assert f'no folder {root / "absent"}' in message
    assert f'data_prefix.{key}' in message
    assert 'docs/en/datasets.md' in message


def test_missing_list(root):
    with pytest.raises(FileNotFoundError, match=r'no file .*absent\.txt'):
        make(root, ann_file='absent.txt')


def test_empty_split(root):
    with pytest.raises(FileNotFoundError) as error:
        make(root, img_suffix='.jpg')
    message = str(error.value)
    assert f"0 images with suffix '.jpg' found in {root / 'images'}" in message
    assert '3 file(s): a.tif, b.tif, more/c.tif;' in message
    assert 'img_suffix' in message
    (root / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='which holds 0 files'):
        make(root, data_prefix=dict(img_path='empty'))
    (root / 'none.txt').write_text('')
    with pytest.raises(FileNotFoundError, match='none.txt lists no image'):
        make(root, ann_file='none.txt')


def test_images_without_labels(root):
    for name in 'defg':
        write_geotiff(
            root / f'images/{name}.tif', np.zeros((8, 8, 3), np.uint8)
        )
    with pytest.raises(FileNotFoundError) as error:
        make(root)
    message = str(error.value)
    assert "of 7 label maps with suffix '.tif'" in message
    assert str(root / 'labels') in message
    assert 'missing 4 file(s): d.tif, e.tif, f.tif, ...' in message
    assert 'seg_map_suffix' in message


def test_listed_images_that_do_not_exist(root):
    (root / 'mine.txt').write_text('a\nghost\n')
    with pytest.raises(FileNotFoundError, match='of 2 images.*ghost.tif'):
        make(root, ann_file='mine.txt')


def test_unknown_split():
    with pytest.raises(ValueError, match="'minival'.*'test', 'train', 'val'"):
        DeepGlobeDataset(split='minival')
    with pytest.raises(ValueError, match='known: none'):
        UHRDataset(split='train')
    with pytest.raises(ValueError, match='leave one out'):
        InriaDataset(split='val', ann_file='mine.txt')


# MD5 of the sorted entries, a line each: the lists of GLNet and FCtL.
@pytest.mark.parametrize(
    'dataset, split, count, md5',
    [
        (DeepGlobeDataset, 'train', 454, '66a011962a88572ce77a3a35a6927f50'),
        (DeepGlobeDataset, 'val', 207, '241a5bc067b07283b69f25ea55bbb86f'),
        (DeepGlobeDataset, 'test', 142, '19f19d9bf03d073e52d72e83ee00594e'),
        (InriaDataset, 'train', 126, '2c52ef3e71b63ef1b49151dee9a3611a'),
        (InriaDataset, 'val', 27, '8a8870d1031fa997de481e23540333a6'),
        (InriaDataset, 'test', 27, '44674d2ebbc81747e7ef72194b30892f'),
    ],
)
def test_split_lists_are_the_fields(dataset, split, count, md5):
    names = dataset.split_names(split)
    entries = sorted(name + dataset.SPLIT_LIST_SUFFIX for name in names)
    text = ''.join(f'{entry}\n' for entry in entries)
    assert len(entries) == count
    assert hashlib.md5(text.encode()).hexdigest() == md5


@pytest.mark.parametrize('dataset', [DeepGlobeDataset, InriaDataset])
def test_splits_are_disjoint(dataset):
    splits = [set(dataset.split_names(s)) for s in ('train', 'val', 'test')]
    assert len(set.union(*splits)) == sum(map(len, splits))
    assert not any('_sat' in name for names in splits for name in names)


@pytest.mark.parametrize(
    'dataset, count, some',
    [
        (BlueMarbleDataset, 10, {0: 'sea', 1: 'lake', 8: 'ice', 9: 'barren'}),
        (DeepGlobeDataset, 7, {0: 'unknown', 1: 'urban', 6: 'barren'}),
        (InriaDataset, 2, {0: 'background', 1: 'building'}),
        (CityscapesUHRDataset, 19, {0: 'road', 10: 'sky', 18: 'bicycle'}),
        (URURDataset, 8, {0: 'others', 1: 'building', 7: 'road'}),
        (FiveBillionPixelsDataset, 24, {0: 'industrial area', 23: 'airport'}),
        (GID5Dataset, 5, {0: 'built-up', 4: 'water'}),
        (GID15Dataset, 15, {0: 'industrial land', 14: 'pond'}),
        (UAVidDataset, 8, {0: 'building', 4: 'moving car', 7: 'clutter'}),
        (UDD6Dataset, 6, {0: 'other', 3: 'vegetation', 5: 'roof'}),
        (VDDDataset, 7, {0: 'other', 6: 'water'}),
        (ISICDataset, 2, {1: 'lesion'}),
        (CRAGDataset, 2, {1: 'gland'}),
    ],
)
def test_classes_are_in_the_papers_order(dataset, count, some):
    classes = dataset.METAINFO['classes']
    palette = dataset.METAINFO['palette']
    assert len(classes) == len(palette) == count
    assert len(set(classes)) == len({tuple(rgb) for rgb in palette}) == count
    assert all(classes[i] == name for i, name in some.items())
    assert DATASETS.get(f'mmseg_uhr.{dataset.__name__}') is dataset


@pytest.mark.parametrize(
    'ours, stock',
    [
        (CityscapesUHRDataset, 'CityscapesDataset'),
        (LoveDAUHRDataset, 'LoveDADataset'),
        (PotsdamUHRDataset, 'PotsdamDataset'),
        (VaihingenUHRDataset, 'ISPRSDataset'),
    ],
)
def test_classes_equal_stocks(ours, stock):
    stock = DATASETS.get(f'mmseg.{stock}').METAINFO
    assert ours.METAINFO['classes'] == stock['classes']
    assert ours.METAINFO['palette'] == stock['palette']


# Bases that read a folder a split: the splits, and the images' suffix.
FOLDERS_OF = dict(
    crag=(('train', 'test'), '.tif'),
    gid15=(('train', 'val'), '.tif'),
    isic=(('train', 'val', 'test'), '.tif'),
    loveda=(('train', 'val'), '.png'),
    own=(('train', 'val', 'test'), '.tif'),
    potsdam=(('train', 'val'), '.tif'),
    uavid=(('train', 'val'), '.tif'),
    udd6=(('train', 'val'), '.tif'),
    urur=(('train', 'val', 'test'), '.tif'),
    vaihingen=(('train', 'val'), '.tif'),
    vdd=(('train', 'val', 'test'), '.tif'),
)


def fill(root: Path, name: str) -> None:
    """Write a tiny data set in the layout that a base expects."""
    if name.startswith('bluemarble'):
        for split in ('train', 'val', 'test'):
            for scene in 'xy':
                path = f'{split}/{scene}.tif'
                write_pair(
                    root / 'img_dir' / path, root / 'ann_dir' / path, 10
                )
    elif name in FOLDERS_OF:
        splits, suffix = FOLDERS_OF[name]
        for split in splits:
            write_pair(
                root / f'img_dir/{split}/1{suffix}',
                root / f'ann_dir/{split}/1.tif',
            )
    elif name in ('fbp', 'fbp_8bit', 'gid5'):
        for split in ('train', 'val', 'test'):
            bands, dtype = (3, 'uint8') if name == 'gid5' else (4, 'uint16')
            dtype = 'uint8' if name == 'fbp_8bit' else dtype
            write_geotiff(
                root / f'img_dir/{split}_1.tif',
                np.ones((24, 24, bands), dtype),
            )
            write_geotiff(
                root / f'ann_dir/{split}_1.tif', np.ones((24, 24), np.uint8)
            )
            (root / 'splits').mkdir(exist_ok=True)
            (root / f'splits/{split}.txt').write_text(f'{split}_1\n')
    elif name == 'cityscapes':
        for split in ('train', 'val'):
            write_pair(
                root / f'leftImg8bit/{split}/ulm/ulm_0_leftImg8bit.png',
                root / f'gtFine/{split}/ulm/ulm_0_gtFine_labelTrainIds.png',
                19,
            )
    else:
        dataset = DeepGlobeDataset if name == 'deepglobe' else InriaDataset
        image, labels = root / 'one.tif', root / 'one_label.tif'
        write_pair(image, labels)
        for folder, file in (('img_dir', image), ('ann_dir', labels)):
            (root / folder).mkdir()
            for split in ('train', 'val', 'test'):
                for scene in dataset.split_names(split):
                    os.link(file, root / folder / f'{scene}.tif')


SIZES = dict(
    bluemarble=(768, 2, 2, 2),
    bluemarble_192x192=(192, 2, 2, 2),
    bluemarble_relief=(1536, 2, 2, 2),
    cityscapes=(1024, 1, 1, 1),
    crag=(768, 1, 1, 1),
    deepglobe=(1224, 454, 207, 142),
    fbp=(1024, 1, 1, 1),
    fbp_8bit=(1024, 1, 1, 1),
    gid15=(1024, 1, 1, 1),
    gid5=(1024, 1, 1, 1),
    inria=(2000, 126, 27, 27),
    inria_2000x2000_scale08=(2500, 126, 27, 27),
    isic=(768, 1, 1, 1),
    loveda=(512, 1, 1, 1),
    own=(1024, 1, 1, 1),
    potsdam=(1024, 1, 1, 1),
    uavid=(1024, 1, 1, 1),
    udd6=(1024, 1, 1, 1),
    urur=(1280, 1, 1, 1),
    vaihingen=(1024, 1, 1, 1),
    vdd=(1024, 1, 1, 1),
)
# Where papers do not average over all classes, or name the number.
SCORED_BY = dict(
    cityscapes='cityscapes-uhr',
    deepglobe='deepglobe-6',
    fbp='fbp-24',
    inria='inria-building',
    urur='urur-8',
)


@pytest.mark.parametrize('name', SIZES)
def test_bases_load_their_layout(name, tmp_path, monkeypatch):
    """Every base reads its data, in batches, through the real pipelines."""
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(BASES / f'{name}.py')
    fill(tmp_path / cfg.data_root, name)
    crop, *counts = SIZES[name]
    assert cfg.crop_size == (crop, crop)
    windows = [
        step.crop_size
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'mmseg_uhr.RandomWindow'
    ]
    assert windows == [cfg.crop_size]
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    found = []
    for split in ('train', 'val', 'test'):
        settings = cfg[f'{split}_dataloader']
        assert settings.dataset.data_root == cfg.data_root
        assert settings.num_workers > 0
        assert settings.persistent_workers
        settings.update(num_workers=0, persistent_workers=False)
        loader = Runner.build_dataloader(settings, seed=0)
        found.append(len(loader.dataset))
        batch = next(iter(loader))
        image, sample = batch['inputs'][0], batch['data_samples'][0]
        height, width = sample.gt_sem_seg.shape
        if split == 'train':
            assert len(batch['inputs']) == settings.batch_size
            assert image.shape == (3, height, width)
        else:
            assert len(batch['inputs']) == 1
            assert isinstance(image, Raster)
            assert image.shape == (height, width)
        assert sample.gt_sem_seg.data.dtype.itemsize == 1
    assert found == counts
    metric = dict(
        type='mmseg_uhr.UHRIoUMetric', iou_metrics=['mIoU', 'mFscore']
    )
    protocol = SCORED_BY.get(name.split('_')[0])
    if protocol:
        metric['protocol'] = protocol
    assert cfg.val_evaluator == metric
    tested = cfg.test_evaluator
    assert metric in (tested if isinstance(tested, list) else [tested])
    for evaluator in [cfg.val_evaluator, tested]:
        evaluator = Evaluator(evaluator)
        # Refuses classes that are not the protocol's.
        evaluator.dataset_meta = loader.dataset.metainfo


def test_every_base_is_tested():
    assert {path.stem for path in BASES.glob('*.py')} == set(SIZES)
