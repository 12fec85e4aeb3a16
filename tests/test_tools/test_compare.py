import contextlib
import csv
import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from mmengine.config import Config
from PIL import Image

TOOLS = Path(__file__).parents[2] / 'tools/analysis_tools'
PAGE = """# Ours

Words before.

<!-- compare: scores -->
old
<!-- end of scores -->

Words after, \\1 kept.
"""


@pytest.fixture(scope='module', autouse=True)
def _path():
    """Let the parts of the tool be imported."""
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


def compare(*arguments):
    """Run the tool here, which spares the start-up of one process."""
    import compare as tool

    saved = sys.argv
    sys.argv = ['compare.py', *map(str, arguments)]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            tool.main()
    finally:
        sys.argv = saved
    return printed.getvalue()


@pytest.fixture(scope='module')
def compared(tmp_path_factory, tiny_config, _path):
    """The command line of a comparison of one system, and what it did."""
    folder = tmp_path_factory.mktemp('compare')
    docs = folder / 'docs'
    docs.mkdir()
    (docs / 'comparison.md').write_text(PAGE)
    command = [
        f'tiny={tiny_config}',
        *('--iterations', 8, '--references', 'a guess=33.3'),
        *('--out', folder / 'out', '--docs', docs),
    ]
    text = compare(*command, '--no-costs')
    return SimpleNamespace(
        command=command, text=text, docs=docs, out=folder / 'out'
    )


def read(out):
    return json.loads((out / 'comparison.json').read_text())


def test_a_system_is_trained_and_tested(compared):
    (row,) = read(compared.out)['rows']
    assert row['name'] == 'tiny'
    assert row['seeds'] == [0]
    mean, spread = row['scores']['mIoU']
    ious = [value[0] for value in row['class_iou']]
    assert len(ious) == 3
    assert mean == pytest.approx(np.mean(ious), abs=0.01)
    assert spread is None
    assert 0 < row['scores']['mIoU_boundary_2px'][0] <= 100
    assert row['scores']['mIoU_trimap_2px'] is not None
    assert row['training']['iterations'] == [8, None]
    assert row['training']['process_mib'][0] > 100
    # The scores are those of the test tool's own log.
    (log,) = compared.out.glob('runs/*/test-*/*/*.json')
    assert json.loads(log.read_text())['mIoU'] == mean


def test_tables_and_pictures_are_written(compared):
    found = read(compared.out)
    with open(compared.out / 'comparison.csv', newline='') as file:
        (line,) = csv.DictReader(file)
    (row,) = found['rows']
    assert float(line['mIoU']) == row['scores']['mIoU'][0]
    assert f'**{row["scores"]["mIoU"][0]:.1f}**' in compared.text
    assert '*a guess* |  | *33.3*' in compared.text
    assert found['head']['torch'] in compared.text
    for name in (
        'memory.png',
        'classes.png',
        'windows_1.jpg',
        'small_1.jpg',
        'seam.jpg',
    ):
        for folder in compared.out, compared.docs:
            with Image.open(folder / name) as picture:
                assert min(picture.size) > 100


def test_words_of_the_page_stay(compared):
    page = (compared.docs / 'comparison.md').read_text()
    assert 'old' not in page
    assert 'Words before.' in page
    assert 'Words after, \\1 kept.' in page
    assert '| tiny | 32 x 32 | **' in page
    # It has no place for them, and the other page has.
    assert 'green' not in page
    assert 'green' in (compared.out / 'comparison.md').read_text()


def test_what_is_finished_is_not_done_again(compared):
    files = {
        path: path.stat().st_mtime_ns
        for path in compared.out.glob('runs/**/*')
        if path.is_file()
    }
    assert compare(*compared.command, '--no-costs') == compared.text
    after = [p for p in compared.out.glob('runs/**/*') if p.is_file()]
    assert sorted(after) == sorted(files)
    for path, time in files.items():
        assert path.stat().st_mtime_ns == time, path


@pytest.mark.slow
def test_costs_and_other_windows_of_the_same_weights(compared):
    text = compare(*compared.command, '--windows', '24x24')
    rows = read(compared.out)['rows']
    own, other = rows
    assert own['window'] == [32, 32]
    assert other['window'] == [24, 24]
    assert other['cost']['windows'] > own['cost']['windows']
    assert min(row['cost']['gmacs'] for row in rows) > 0
    # The validation scenes choose, here those of the test.
    (chosen,) = [row for row in rows if row['chosen']]
    assert chosen['scores']['mIoU'] == chosen['validation']
    assert chosen['validation'] == max(row['validation'] for row in rows)
    assert f'| **tiny** | **{"{} x {}".format(*chosen["window"])}**' in text
    cost = chosen['cost']
    assert 0 < cost['allocated_mib'] <= 1.02 * cost['planned_mib']
    assert cost['s_per_mp'] > 0
    assert cost['training_mib'] > 0
    assert not cost['notes']
    assert len(list(compared.out.glob('runs/*/trained.json'))) == 1
    # Of each windows on the test scenes, and of others for validation.
    assert len(list(compared.out.glob('runs/*/test-*/scores.json'))) == 2


@pytest.mark.slow
def test_a_stopped_training_goes_on(tiny_config, tmp_path):
    """From the checkpoint of iteration 3, as if it had been killed there."""
    from comparing.training import train

    run, half = (make(tiny_config, tmp_path, 1) for _ in range(2))
    half.cfg.train_cfg.max_iters = half.cfg.train_cfg.val_interval = 3
    half.cfg.default_hooks.checkpoint.interval = 3
    train(half, 1)
    run.trained_file.unlink()
    train(run, 1)
    log = (run.folder / 'train.log').read_text()
    assert 'resumed epoch: 0, iter: 3' in log
    assert json.loads(run.trained_file.read_text())['iterations'] == 8


def test_stitching_compares_maps_of_shifted_windows(
    compared, scenes, tmp_path
):
    import compare as tool
    from comparing.stitching import measure_stitching

    from mmseg_uhr.apis import UHRInferencer

    saved, sys.argv = sys.argv, ['compare.py', *map(str, compared.command)]
    try:
        (run,) = tool.Comparison(tool.parse_args()).runs
    finally:
        sys.argv = saved
    path = sorted((scenes / 'images').glob('*.tif'))[0]
    assert measure_stitching(run, path, 'cpu', anew=False) == {}
    found = measure_stitching(run, path, 'cpu')
    assert set(found) == {'tiles', 'overlapped'}
    assert measure_stitching(run, path, 'cpu', anew=False) == found
    # The same from files, and seams counted one by one.
    trained = json.loads(run.trained_file.read_text())
    run.cfg.model.test_cfg.update(stride=run.window)
    segment = UHRInferencer(run.cfg, run.folder / trained['checkpoint'], 'cpu')
    (h, w), (y, x) = run.window, (side // 2 for side in run.window)
    with rasterio.open(path) as file:
        profile, pixels = file.profile, file.read()
    profile.update(height=file.height - y, width=file.width - x)
    shifted = tmp_path / 'shifted.tif'
    with rasterio.open(shifted, 'w', **profile) as file:
        file.write(pixels[:, y:, x:])
    first, second = (
        np.asarray(segment(one, progress=False).labels)
        for one in (path, shifted)
    )
    differ = first[y:, x:] != second
    # Windows of the last row and column are moved back into the scene.
    rows, columns = (
        {*range(side, length, side), length - side}
        for length, side in zip(first.shape, (h, w), strict=True)
    )
    counted = [
        differ[i - y, j - x]
        for i in range(y, first.shape[0])
        for j in range(x, first.shape[1])
        if any(abs(i + 0.5 - row) < 8 for row in rows)
        or any(abs(j + 0.5 - column) < 8 for column in columns)
    ]
    assert found['tiles'] == pytest.approx(100 * np.mean(counted))


def test_pixels_near_seams():
    from comparing.stitching import _near_seams

    near = _near_seams((128, 64), (64, 64), (32, 32))
    assert near.shape == (96, 32)
    # There is a seam at row 64, which is row 32 of the part in common.
    assert near[24:40].all()
    assert not near[:24].any()
    assert not near[40:].any()


def test_two_do_not_train_the_same(compared):
    import compare as tool

    with (
        tool.only_one(compared.out),
        pytest.raises(SystemExit, match='another compare.py trains there'),
    ):
        compare(*compared.command, '--no-costs')
    assert '| tiny |' in compare(*compared.command, '--no-costs')


def make(config, out, seed=0, budget=None, changes=None, **options):
    from comparing.presets import System
    from comparing.runs import Budget, make_run

    system = System(str(config), changes or {})
    return make_run('x', system, seed, budget or Budget(8), (), out, **options)


def test_a_run_is_known_by_what_is_trained(tiny_config, tmp_path):
    from comparing.runs import Budget

    run = make(tiny_config, tmp_path)
    assert make(tiny_config, tmp_path).folder == run.folder
    assert make(tiny_config, tmp_path, seed=1).folder != run.folder
    longer = make(tiny_config, tmp_path, budget=Budget(9))
    assert longer.folder != run.folder
    other = make(tiny_config, tmp_path, test_cfg=dict(crop_size=(24, 24)))
    assert other.folder == run.folder
    assert other.test_folder != run.test_folder
    rate = {'optim_wrapper.optimizer.lr': 0.5}
    other = make(tiny_config, tmp_path, changes=rate)
    assert other.cfg.optim_wrapper.optimizer.lr == 0.5
    assert other.folder != run.folder

    changed = tmp_path / tiny_config.name
    base = f'_base_ = [{str(tiny_config)!r}]\n'
    changed.write_text(base + 'train_dataloader = dict(num_workers=1)\n')
    assert make(changed, tmp_path).folder == run.folder
    changed.write_text(base + 'train_dataloader = dict(batch_size=1)\n')
    assert make(changed, tmp_path).folder != run.folder


def test_other_data_make_another_run(tiny_config, tmp_path, scenes):
    copied = tmp_path / 'scenes'
    shutil.copytree(scenes, copied)
    config = tmp_path / tiny_config.name
    text = tiny_config.read_text().replace(str(scenes), str(copied))
    config.write_text(text)
    run = make(config, tmp_path)
    with open(copied / 'labels' / 'a.tif', 'ab') as file:
        file.write(b'!')
    from comparing import runs

    runs._contents.cache_clear()
    assert make(config, tmp_path).folder != run.folder
    shutil.rmtree(copied)
    runs._contents.cache_clear()
    with pytest.raises(FileNotFoundError, match='dataset_converters'):
        make(config, tmp_path)


def test_budgets_replace_the_config_s_schedule(tiny_config):
    from comparing.runs import Budget

    cfg = Config.fromfile(tiny_config)
    Budget(iterations=100).apply(cfg)
    assert cfg.train_cfg.max_iters == 100
    warmup, decay = cfg.param_scheduler
    assert (warmup.end, decay.end) == (5, 100)
    Budget(minutes=2).apply(cfg)
    (hook,) = cfg.custom_hooks
    assert hook == dict(
        type='mmseg_uhr.TimeBudgetHook', minutes=2, clock='wall'
    )
    assert str(Budget(minutes=2, clock='cpu')) == '2 CPU minutes'
    assert cfg.param_scheduler == []
    Budget(iterations=100).apply(cfg)
    assert cfg.custom_hooks == []
    own = Config.fromfile(tiny_config)
    Budget().apply(own)
    assert own.param_scheduler[0].end == 40


def test_only_windows_that_are_smaller_are_tested(tiny_config):
    from compare import smaller_windows

    cfg = Config.fromfile(tiny_config)
    (found,) = smaller_windows(cfg, [(64, 64), (32, 32), (16, 24)])
    assert found == dict(crop_size=(16, 24), stride=(12, 18))
    cfg.model.views = dict(local=dict(scale=0.5))
    assert smaller_windows(cfg, [(16, 24)]) == []


def test_spread_is_of_the_seeds():
    from comparing.results import mean_spread
    from comparing.tables import score_text

    assert mean_spread([1.0, None, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert mean_spread([4.0, float('nan')]) == (4.0, None)
    assert mean_spread([None]) is None
    assert score_text((41.26, 1.234)) == '41.3 ± 1.2'
    assert score_text((41.26, None)) == '41.3'
    assert score_text(None) == ''


def test_validation_chooses_the_windows():
    from comparing.results import choose

    rows = [
        dict(name=name, validation=score and (score, None), chosen=False)
        for name, score in (('a', 30.0), ('a', 31.0), ('b', None), ('a', None))
    ]
    choose(rows)
    assert [row['chosen'] for row in rows] == [False, True, True, False]


def test_windows_to_look_at_are_where_things_are():
    from comparing.scenes import boundary_mask, densest, on_seam, small_objects

    labels = np.zeros((60, 80), np.uint8)
    labels[40:42, 60:63] = 1
    labels[10:20, 10:20] = 2
    labels[0, 0] = 255
    small = small_objects(labels, 255, 32)
    assert small.sum() == 6
    assert small[40:42, 60:63].all()
    (y, x, h, w), *_ = densest(small, (16, 16), 2)
    assert (h, w) == (16, 16)
    assert y <= 40
    assert y + h >= 42
    assert x <= 60
    assert x + w >= 63
    lines = boundary_mask(labels)
    assert lines[39, 60]
    assert not lines[30, 30]
    y, x, h, w = on_seam(lines, 41, (20, 20))
    assert (y, h) == (31, 20)
    assert x <= 60 < x + w
    # Near the border the window stays within the scene.
    assert on_seam(lines, 58, (20, 20))[0] == 40


def test_wrong_pixels_are_red_and_ignored_ones_are_not():
    from comparing.scenes import Scene
    from comparing.sheets import errors

    labels = np.array([[0, 1], [255, 1]], np.uint8)
    scene = Scene(
        's',
        np.full((2, 2, 3), 100, np.uint8),
        labels,
        dict(a=np.array([[0, 0], [1, 1]], np.uint8)),
        ('p', 'q'),
        [[0, 0, 0], [9, 9, 9]],
        255,
    )
    picture = errors(scene, 'a', (0, 0, 2, 2)).astype(int)
    red = picture[..., 0] - picture[..., 1] > 50
    assert red.tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ([], 'nothing to compare'),
        (['a=x.py', 'a=y.py'], "'a' is there 2 times"),
        (['none.py'], 'none.py'),
        (['x.py', '--windows', '5'], "'5' is no HxW"),
        (['x.py', '--references', 'a'], 'no NAME=VALUE'),
        (['x.py', '--iterations', '0'], '--iterations: more than 0'),
        (['x.py', '--raster', 'none.tif'], 'none.tif: no such file'),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, monkeypatch, capsys):
    import compare as tool

    monkeypatch.setattr(sys, 'argv', ['compare.py', *arguments])
    with pytest.raises(SystemExit) as error:
        tool.main()
    text = f'{error.value}{capsys.readouterr().err}'
    assert said in text
    assert 'Traceback' not in text
