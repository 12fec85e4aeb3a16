"""Networks of bytes keep the classes, or there is no file."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmseg_uhr.apis import init_segmentor
from mmseg_uhr.deployment import (
    OnnxSegmentor,
    QuantisationError,
    export_onnx,
    quantise_onnx,
)
from mmseg_uhr.deployment.quantise import _classes, spread_windows
from mmseg_uhr.rasters import RasterError

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')


@pytest.fixture(scope='module')
def exported(tmp_path_factory, tiny_config, trained):
    """The float32 file."""
    model = init_segmentor(tiny_config, trained / 'iter_40.pth', 'cpu')
    path = tmp_path_factory.mktemp('float') / 'tiny.onnx'
    export_onnx(model, path, dynamic=True)
    return path


@pytest.fixture(scope='module')
def quantised(tmp_path_factory, exported, scenes):
    """Result of quantising it, with scores."""
    images, labels = scenes / 'images', scenes / 'labels'
    return quantise_onnx(
        exported,
        tmp_path_factory.mktemp('int8') / 'tiny.onnx',
        [images / 'a.tif', images / 'b.tif'],
        images / 'c.tif',
        labels / 'c.tif',
        windows=6,
    )


def test_classes_and_scores_are_kept(quantised):
    assert (quantised.calibrated, quantised.checked) == (6, 6)
    assert quantised.kept >= 0.95
    before, after = quantised.scores
    assert before > 50
    assert abs(after - before) < 3


def test_inner_convolutions_are_of_bytes_and_the_last_is_not(quantised):
    graph = onnx.load(quantised.path).graph
    made_by = {name: node for node in graph.node for name in node.output}
    kinds = []
    for node in graph.node:
        if node.op_type == 'Conv':
            maker = made_by.get(node.input[1])
            kinds.append(maker is not None and maker.op_type)
    assert kinds[:-1] == ['DequantizeLinear'] * (len(kinds) - 1)
    assert len(kinds) > 5
    assert kinds[-1] != 'DequantizeLinear'
    scales = {one.name: one.dims for one in graph.initializer}
    # A scale per channel of a weight.
    assert any(
        len(dims) == 1 and dims[0] > 1
        for name, dims in scales.items()
        if name.endswith('_scale')
    )
    assert {node.domain for node in graph.node} <= {''}


def test_file_streams_scenes_like_the_other(quantised, exported, scenes):
    raster = scenes / 'images' / 'c.tif'
    maps = []
    for path in (exported, quantised.path):
        segmentor = OnnxSegmentor(path)
        opened = segmentor.loader().open(str(raster))
        found = [rows.labels for rows in segmentor.stream(opened)]
        maps.append(np.concatenate(found))
    assert maps[0].shape == (96, 128)
    assert (maps[0] == maps[1]).mean() >= 0.95
    names = [path.name for path in quantised.path.parent.iterdir()]
    assert names == ['tiny.onnx']


def test_calibration_and_check_see_other_windows(exported, scenes):
    segmentor = OnnxSegmentor(exported)
    scene = scenes / 'images' / 'a.tif'
    first, second = (
        {window for window, _ in spread_windows(segmentor, scene, 4, phase)}
        for phase in (0.25, 0.75)
    )
    assert len(first) == len(second) == 4
    assert not first & second
    # From the upper to the lower rows.
    assert len({window.y for window in first}) > 1


def test_classes_are_those_of_a_prediction():
    logits = np.array([[[-2.0, -0.5], [0.5, 2.0]]], np.float32)
    session = SimpleNamespace(
        known=dict(threshold=0.3), run=lambda inputs: logits[None].copy()
    )
    found, _ = _classes(session, {})
    # The sigmoid of -0.5 is 0.38.
    assert found.tolist() == [[0, 1], [1, 1]]


def test_network_that_loses_too_much_is_written_only_on_request(
    exported, scenes, tmp_path
):
    path = tmp_path / 'net.onnx'
    path.write_text('an earlier one')
    scene = scenes / 'images' / 'a.tif'
    # More than all pixels cannot keep their class.
    with pytest.raises(QuantisationError, match='was not written: in int8'):
        quantise_onnx(exported, path, [scene], windows=2, keep=1.01)
    assert path.read_text() == 'an earlier one'
    assert [one.name for one in tmp_path.iterdir()] == ['net.onnx']
    found = quantise_onnx(
        exported, path, [scene], windows=2, keep=1.01, force=True
    )
    assert path.stat().st_size == found.int8_bytes


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(path='net.pt2'), 'ends in .onnx'),
        (dict(scenes=[]), 'scenes to calibrate on'),
        (dict(labels='x.tif'), 'give the scene that they belong to'),
        (dict(windows=0), 'windows=0'),
    ],
)
def test_options_that_make_no_sense_are_refused(
    exported, scenes, tmp_path, options, message
):
    path = tmp_path / options.pop('path', 'net.onnx')
    options = dict(scenes=[scenes / 'images' / 'a.tif']) | options
    with pytest.raises(QuantisationError, match=message):
        quantise_onnx(exported, path, **options)


def test_scene_smaller_than_a_window_is_refused(exported, scenes):
    segmentor = OnnxSegmentor(
        exported, cfg_options={'model.test_cfg.crop_size': (200, 200)}
    )
    scene = scenes / 'images' / 'a.tif'
    with pytest.raises(RasterError, match='96 x 128 pixels, smaller than'):
        list(spread_windows(segmentor, scene, 1, 0.5))


def test_tool_writes_int8_and_tells_the_scores(
    run_tool, tiny_config, trained, scenes, tmp_path, capsys
):
    images = scenes / 'images'
    arguments = (
        'deployment/export.py',
        tiny_config,
        trained / 'iter_40.pth',
        '--out',
        tmp_path / 'net.onnx',
        '--int8',
    )
    with pytest.raises(SystemExit, match='^export.py: --int8: give --calib'):
        run_tool(*arguments)
    run_tool(
        *arguments,
        '--calibrate',
        images / 'a.tif',
        '--scene',
        images / 'c.tif',
        '--labels',
        scenes / 'labels' / 'c.tif',
    )
    assert 'mIoU' in capsys.readouterr().out
    assert [one.name for one in tmp_path.iterdir()] == ['net.onnx']
