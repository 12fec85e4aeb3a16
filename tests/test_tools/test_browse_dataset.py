import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmseg_uhr.compat import installed_stacks
from mmseg_uhr.visualization import as_rgb, window_sheet

PALETTE = {(200, 60, 60), (60, 200, 60), (60, 60, 200)}


def colours_of(path):
    picture = cv2.imread(str(path))[..., ::-1]
    found = np.unique(picture.reshape(-1, 3), axis=0)
    return {tuple(map(int, colour)) for colour in found}


def test_windows_and_statistics(tiny_config, tmp_path, run_tool, capsys):
    run_tool(
        *('browse_dataset.py', tiny_config, '--out', tmp_path / 'out'),
        *('--number', 2, '--stats', '--windows', 30),
    )
    sheets = sorted((tmp_path / 'out').iterdir())
    assert [sheet.name for sheet in sheets] == [
        'train_000.png',
        'train_001.png',
        'train_statistics.png',
    ]
    for sheet in sheets:
        assert PALETTE & colours_of(sheet)
    lines = capsys.readouterr().out.splitlines()
    table = {line.split()[0]: line.split()[1:] for line in lines if line}
    counts = [
        int(table[name][0].replace(',', ''))
        for name in ('red', 'green', 'blue', '(ignored)')
    ]
    assert sum(counts) == 3 * 96 * 128
    assert counts[-1] == 3 * 3 * 128
    sampled = [float(table[name][3]) for name in ('red', 'green', 'blue')]
    assert sum(sampled) == pytest.approx(100, abs=0.1)


def test_scenes_of_another_split(tiny_config, tmp_path, run_tool):
    run_tool(
        *('browse_dataset.py', tiny_config, '--out', tmp_path),
        *('--split', 'val', '--number', 9, '--stats'),
    )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        'val_000.png',
        'val_001.png',
        'val_002.png',
        'val_statistics.png',
    ]
    assert colours_of(tmp_path / 'val_000.png') >= PALETTE


def variant(tiny_config, tmp_path, change):
    """Write a changed copy of the tiny config."""
    cfg = Config.fromfile(tiny_config)
    change(cfg)
    path = tmp_path / 'variant.py'
    cfg.dump(path)
    return path


def test_wider_views_and_the_window_sampler(tiny_config, tmp_path, run_tool):
    def change(cfg):
        loader = cfg.train_dataloader
        loader.dataset.pipeline[3].views = dict(
            context=dict(region=3, size=(64, 64))
        )
        # Of the window only, as the network would get it.
        loader.dataset.pipeline.pop(5)
        loader.sampler = dict(type='mmseg_uhr.WindowSampler')

    config = variant(tiny_config, tmp_path, change)
    out = tmp_path / 'out'
    run_tool('browse_dataset.py', config, '--out', out, '--number', 1)
    wide = cv2.imread(str(out / 'train_000.png'))
    run_tool('browse_dataset.py', tiny_config, '--out', out, '--number', 1)
    assert wide.shape[1] > cv2.imread(str(out / 'train_000.png')).shape[1]


def test_scenes_without_labels(tiny_config, tmp_path, run_tool):
    def change(cfg):
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            del loader.dataset.data_prefix['seg_map_path']

    config = variant(tiny_config, tmp_path, change)
    arguments = ('browse_dataset.py', config, '--out', tmp_path / 'out')
    run_tool(*arguments, '--split', 'val', '--number', 1)
    assert (tmp_path / 'out' / 'val_000.png').exists()
    with pytest.raises(SystemExit, match='--stats: UHRDataset has scenes'):
        run_tool(*arguments, '--split', 'val', '--stats')
    with pytest.raises(SystemExit, match='RandomWindow.*no label map'):
        run_tool(*arguments, '--number', 9)


def test_a_split_that_is_missing(tiny_config, tmp_path, run_tool):
    def change(cfg):
        cfg.test_dataloader = None

    config = variant(tiny_config, tmp_path, change)
    with pytest.raises(SystemExit, match='has no test_dataloader'):
        run_tool(
            *('browse_dataset.py', config, '--out', tmp_path),
            *('--split', 'test'),
        )


def test_stocks_browser_shows_our_windows(tiny_config, tmp_path, run_tool):
    package = Path(importlib.util.find_spec('mmseg').origin).parent
    tool = package / '.mim' / 'tools' / 'analysis_tools' / 'browse_dataset.py'
    if not tool.exists():
        pytest.skip('this mmseg was installed without its tools')
    if 'openmmlab' in installed_stacks().get('mmseg', {}):
        pytest.skip('mmseg 1.2 draws no labels with OpenCV 5, its own neither')
    out = tmp_path / 'out'
    run_tool(tool, tiny_config, '--output-dir', out, '--not-show')
    assert {path.name for path in out.iterdir()} == {'a.tif', 'b.tif', 'c.tif'}
    picture = cv2.imread(str(out / 'a.tif'))
    assert picture.shape == (32, 32, 3)


def test_a_sheet_shows_labels_in_their_colours_and_the_box():
    labels = np.zeros((40, 30), np.uint8)
    labels[20:] = 1
    view = np.full((20, 20, 3), 50, np.uint8)
    sheet = window_sheet(
        'title',
        'subtitle',
        dict(window=np.full((40, 30, 3), 7, np.uint8), context=view),
        labels,
        ('sky', 'earth'),
        [[10, 20, 200], [120, 60, 20]],
        dict(context=(0.25, 0.25, 0.5, 0.5)),
        panel=80,
    )
    for colour in ([10, 20, 200], [120, 60, 20]):
        # Half of a panel of 80 x 60 pixels, and a swatch.
        found = (sheet == colour).all(-1).sum()
        assert 40 * 60 < found < 40 * 60 + 200
    inside = (sheet == 50).all(-1)
    # The outlined part has the same pixels: the rim alone is drawn over.
    assert 80 * 80 - 900 < inside.sum() < 80 * 80 - 400


def test_pictures_of_other_images():
    grey = np.array([[[0.0], [2.0]]], np.float32)
    np.testing.assert_array_equal(as_rgb(grey)[0], [[0] * 3, [255] * 3])
    infrared = np.zeros((1, 1, 4), np.uint8)
    infrared[..., 2] = 9
    np.testing.assert_array_equal(as_rgb(infrared)[0, 0], [9, 0, 0])
