import csv
import json
import runpy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

from mmseg_uhr.memory import model_cost, plan_memory
from mmseg_uhr.planning import Planner

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/analysis_tools/benchmark.py'
MIB = 2**20
STOCK = """
_base_ = [{base!r}]
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        _delete_=True,
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    test_cfg=dict(_delete_=True, mode='whole'),
)
"""


@pytest.fixture(scope='module')
def stock_config(tmp_path_factory, tiny_config):
    """The same network in stock's segmentor."""
    path = tmp_path_factory.mktemp('stock') / 'stock.py'
    path.write_text(STOCK.format(base=str(tiny_config)))
    return path


@pytest.fixture(scope='module')
def measured(tmp_path_factory, tiny_config, stock_config):
    """A run of the tool: ours, one that cannot be built, stock."""
    folder = tmp_path_factory.mktemp('benchmark')
    wrong = folder / 'wrong.py'
    wrong.write_text(
        f'_base_ = [{str(tiny_config)!r}]\n'
        'model = dict(decode_head=dict(type="NoSuchHead"))\n'
    )
    ended = subprocess.run(
        [
            sys.executable,
            str(TOOL),
            str(tiny_config),
            f'{wrong}@64x48',
            str(stock_config),
            *('--size', '256', '320', '--device', 'cpu', '--threads', '1'),
            *('--rounds', '1', '--runs', '3', '--batch-size', '2'),
            *('--out', str(folder / 'new' / 'out'), '--plot'),
            *('--scores', f'{tiny_config.stem}=71.5', 'stock=70'),
            *('--score-name', 'mIoU'),
        ],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended, folder / 'new' / 'out'


@pytest.fixture(scope='module')
def found(measured):
    """Its JSON file."""
    return json.loads((measured[1] / 'benchmark.json').read_text())


def test_head_says_what_was_measured(found, measured):
    head = found['head']
    assert head['batch_size'] == 2
    assert head['precision'] == 'fp32'
    assert head['warmup'] == 1
    assert head['threads'] == 1
    assert head['device'] == 'cpu'
    assert head['torch'] in head['text']
    assert 'fp32, batch 2' in head['text']
    assert 'random weights' in head['text']
    assert head['text'] in measured[0].stdout


def test_rows_have_the_cost_and_the_plan_of_the_library(found, tiny_config):
    init_default_scope('mmseg')
    model = MODELS.build(Config.fromfile(tiny_config).model)
    cost = model_cost(model, (256, 320), 2)
    row = found['rows'][0]
    assert row['parameters_m'] == pytest.approx(cost.mparams)
    assert row['gmacs'] == pytest.approx(cost.gmacs / 2)
    assert row['activations_mib'] == pytest.approx(cost.peak_mib)
    plan = plan_memory(model, (256, 320), 2)
    assert row['planned_mib'] == pytest.approx(plan.total / MIB)


def test_rows_have_memory_by_both_protocols_and_time(found):
    ours, _, stock = found['rows']
    for row in ours, stock:
        assert 0.9 * row['planned_mib'] <= row['allocated_mib']
        assert row['allocated_mib'] <= row['planned_mib']
        # Python and PyTorch are there, too.
        assert row['process_mib'] > 100 + row['added_mib']
        assert row['reserved_mib'] is None
        seconds = row['runs'][0]['seconds']
        assert len(seconds) == 3
        assert row['latency'] == sorted(seconds)[1]
        assert min(seconds) <= row['latency'] <= max(seconds)
        assert row['fps'] == pytest.approx(2 / row['latency'])
        assert row['s_per_mp'] == pytest.approx(
            row['latency'] / 2 / (256 * 320 / 1e6)
        )
        assert 0 < row['cpu_seconds'] < 60
        assert row['cpu_s_per_mp'] == pytest.approx(
            row['cpu_seconds'] / 2 / (256 * 320 / 1e6)
        )
    # Stock keeps features while it enlarges logits.
    assert ours['planned_mib'] <= stock['planned_mib']


def test_a_failure_is_a_row_and_the_others_go_on(found, measured):
    row = found['rows'][1]
    assert row['size'] == [64, 48]
    assert 'NoSuchHead' in row['problem']
    assert 'latency' not in row
    assert f'| wrong | 64 x 48: **{row["problem"]}** |' in measured[0].stdout


def test_table_and_files_say_the_same(found, measured):
    ended, folder = measured
    # Importing a stack may print something, too.
    assert ended.stdout.endswith((folder / 'benchmark.md').read_text())
    table = [line for line in ended.stdout.splitlines() if line[:1] == '|']
    assert len(table) == 2 + 3
    assert len({line.count('|') for line in table}) == 1
    heading = [cell.strip() for cell in table[0].split('|')]
    assert 'reserved, MiB' not in heading
    column = heading.index('planned, MiB')
    ours, wrong, stock = (
        line.split('|')[column].strip() for line in table[2:]
    )
    assert ours == f'{found["rows"][0]["planned_mib"]:.0f}'
    assert wrong == ''
    assert stock == f'{found["rows"][2]["planned_mib"]:.0f}'
    with open(folder / 'benchmark.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['name'] for row in rows] == [r['name'] for r in found['rows']]
    assert float(rows[0]['score']) == 71.5
    assert float(rows[2]['latency']) == found['rows'][2]['latency']


def test_rounds_take_turns(measured, tiny_config):
    # What failed before is not tried again.
    assert measured[0].stderr.splitlines() == [
        f'cost: {tiny_config.stem}, 256 x 320',
        'cost: wrong, 64 x 48',
        'cost: stock, 256 x 320',
        f'round 1: {tiny_config.stem}, 256 x 320',
        'round 1: stock, 256 x 320',
    ]


@pytest.fixture
def measuring(monkeypatch):
    """Modules that the tool uses."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    from measuring import job, report

    return job, report


def test_plot_is_drawn_with_scores_and_with_times(
    found, measured, measuring, tmp_path
):
    with Image.open(measured[1] / 'benchmark.png') as picture:
        scored = picture.convert('RGB')
    for row in found['rows']:
        row['score'] = None
    path = tmp_path / 'times.png'
    measuring[1].draw(path, found['head'], found['rows'], 'mIoU')
    with Image.open(path) as picture:
        assert picture.size == scored.size
        assert picture.convert('RGB').tobytes() != scored.tobytes()


def test_a_stream_is_measured_with_its_band(measuring, tiny_config, tmp_path):
    job = measuring[0]
    task = job.Job(
        str(tiny_config), (96, 128), 3, 'bf16', 'stream', 'cpu', 1, 0, 2
    )
    model = job.build(task, tmp_path / 'weights.pth', 'bf16')
    cost = job.measure_cost(task, model)
    assert cost['seen'] == (32, 32)
    # Steps of 24 pixels, the last one flush with the border.
    assert cost['windows'] == 4 * 5
    one = model_cost(model, (32, 32))
    assert cost['gmacs'] == pytest.approx(20 * one.gmacs)
    plan = plan_memory(model, (32, 32), 3, precision='bf16').total
    # Sums of 3 classes, 32 rows, 128 columns, four bytes each.
    band = 3 * 32 * 128 * 4
    # Their class ids, and weights of rows and columns.
    ids, weights = 32 * 128, 4 * sum(task.size)
    assert cost['planned_mib'] == pytest.approx(
        (plan + band + ids + weights) / MIB
    )
    run = job.measure_run(task, model)
    assert len(run['seconds']) == 2
    assert run['allocated_mib'] > band / MIB
    assert run['process_mib'] > 100


def test_a_stream_is_planned_with_views_that_grow(measuring, tmp_path):
    path = ROOT / 'configs/fctl/fctl-fpn_r18-w16_5min_bluemarble-192x192.py'
    cfg = Config.fromfile(path)
    cfg.model.test_cfg.update(
        crop_size=(96, 96), stride=(96, 96), tta_scales=(1.0, 2.0)
    )
    config = tmp_path / 'config.py'
    cfg.dump(config)
    job = measuring[0]
    task = job.Job(
        str(config), (400, 500), 2, 'fp32', 'stream', 'cpu', 1, 0, 1
    )
    model = job.build(task, tmp_path / 'weights.pth', 'fp32')
    planner = Planner(
        cfg, precision='fp32', image_size=(400, 500), batch_size=2
    )
    expected = planner.as_configured().device_bytes / MIB
    assert job.measure_cost(task, model)['planned_mib'] == expected


def test_running_out_of_memory_is_a_result(
    measuring, monkeypatch, tiny_config, tmp_path
):
    # More than a process can address.
    size = (4000000, 4000000)
    task = measuring[0].Job(
        str(tiny_config), size, 1, 'fp32', 'whole', 'cpu', 1, 0, 1
    )
    out = tmp_path / 'found.json'
    found = {}
    for kind in ('cost', 'run'):
        argv = ['job.py', kind, json.dumps(asdict(task)), str(out)]
        monkeypatch.setattr(sys, 'argv', argv)
        measuring[0].main()
        found[kind] = json.loads(out.read_text())
    # The plan is there all the same.
    assert found['cost']['planned_mib'] > 1e8
    assert found['run']['problem'].startswith('out of memory: ')


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['{config}'], 'no size; give --size H W'),
        (['{config}', '--size', 64], 'give pairs, height and width'),
        (['{config}', '--size', 0, 64], 'at least 1 pixel'),
        (['missing.py', '--size', 64, 64], 'missing.py'),
        (['{part}', '--size', 64, 64], 'has no model; give the whole config'),
        (['{broken}', '--size', 64, 64], 'broken.py'),
        (
            ['{config}', '--size', 64, 64, '--device', 'cuda:99'],
            "'cuda:99' cannot be used",
        ),
        (
            ['{config}', '--size', 64, 64, '--precision', 'fp16'],
            'fp16 is not for CPUs: use bf16',
        ),
        (
            ['{config}', '--size', 64, 64, '--scores', 'other=3'],
            "'other', which is not measured",
        ),
        (
            ['{config}', '--size', 64, 64, '--scores', '{stem}=good'],
            "expected numbers, got {'",
        ),
        (
            ['{config}', '--size', 64, 64, '--scores', 'no.json'],
            '--scores no.json: ',
        ),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    measuring, monkeypatch, tmp_path, tiny_config, arguments, words
):
    part, broken = tmp_path / 'part.py', tmp_path / 'broken.py'
    part.write_text('lr = 0.1\n')
    broken.write_text('model = dict(\n')
    names = dict(
        config=tiny_config, stem=tiny_config.stem, part=part, broken=broken
    )
    argv = [str(value).format(**names) for value in arguments]
    if '--device' not in argv:
        argv += ['--device', 'cpu']
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *argv])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert str(ended.value).startswith('benchmark.py: ')
    assert words in str(ended.value)
    assert '\n' not in str(ended.value)


@pytest.mark.parametrize(
    'option, words',
    [
        (['--rounds', '0'], '--rounds: at least 1'),
        (['--batch-size', '0'], '--batch-size: at least 1'),
        (['--warmup', '-1'], '--warmup: at least 0'),
        (['--plot'], 'give --out'),
    ],
)
def test_bad_options_are_told_with_the_usage(
    measuring, monkeypatch, capsys, option, words
):
    argv = ['benchmark.py', 'x.py', '--size', '64', '64', *option]
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit, match='2'):
        runpy.run_path(str(TOOL), run_name='__main__')
    assert words in capsys.readouterr().err
