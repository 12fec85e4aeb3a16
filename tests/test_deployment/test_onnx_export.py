"""Exported networks compute what PyTorch does, or there is no file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_uhr.apis import init_segmentor
from mmseg_uhr.deployment import (
    ExportError,
    Parity,
    WindowNetwork,
    export_onnx,
    open_session,
    random_windows,
    read_windows,
)
from mmseg_uhr.models.segmentors import streaming_config
from mmseg_uhr.models.segmentors.window_predictor import WindowPredictor
from mmseg_uhr.rasters import RasterError, as_raster
from mmseg_uhr.streaming import StreamSettings
from mmseg_uhr.streaming.loop import read_batches

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

ROOT = Path(__file__).resolve().parents[2]
SIZE = (32, 32)


@pytest.fixture
def model(tiny_config, trained):
    return init_segmentor(tiny_config, trained / 'iter_40.pth', 'cpu')


@pytest.fixture(scope='module')
def exported(tmp_path_factory, tiny_config, trained, scenes):
    """Result and file of a network of bytes whose sizes may vary."""
    model = init_segmentor(tiny_config, trained / 'iter_40.pth', 'cpu')
    path = tmp_path_factory.mktemp('exported') / 'tiny.onnx'
    scene = scenes / 'images' / 'a.tif'
    return export_onnx(model, path, dynamic=True, uint8=True, scene=scene)


def test_logits_are_those_of_a_prediction(model, exported, scenes):
    settings = StreamSettings(crop_size=(40, 56), stride=(40, 56))
    raster = as_raster(str(scenes / 'images' / 'b.tif'))
    pixels = raster.read().transpose(2, 0, 1)[::-1].copy()  # as mmseg reads
    raster = as_raster(torch.from_numpy(pixels))
    plan = settings.plan(raster.shape)
    batch = next(read_batches(raster, plan, model.views, 3, (0, 96)))
    with torch.no_grad():
        expected = WindowPredictor(model, settings, True)(batch).numpy()
    views = np.stack([one['local'].numpy() for one in batch.inputs])
    session = open_session(exported.path)
    (found,) = session.run(None, {'local': views.astype(np.uint8)})
    assert found.shape == (3, 3, 40, 56)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_result_tells_what_may_vary_and_how_well_it_was_checked(exported):
    assert exported.axes == ('batch', 'height', 'width')
    assert exported.multiple == 1
    assert not exported.refused
    assert sum(name.startswith('real') for name in exported.parity) == 4
    assert all(parity.holds() for parity in exported.parity.values())


def test_file_is_standard_and_tells_how_to_use_it(exported):
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {''}
    assert not model.functions
    known = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert known['mmseg_uhr.classes'] == ['red', 'green', 'blue']
    assert known['mmseg_uhr.bands'] == 'reversed'
    assert known['mmseg_uhr.window'] == [32, 32]
    assert [p.name for p in exported.path.parent.iterdir()] == ['tiny.onnx']


def test_normalising_can_be_left_to_the_caller(model):
    raw, plain = WindowNetwork(model), WindowNetwork(model, normalise=False)
    (x,) = random_windows(model, raw, SIZE)
    torch.testing.assert_close(plain(raw.normalise(x)), raw(x))


def test_half_precision_keeps_types_and_classes(model, tmp_path):
    result = export_onnx(model, tmp_path / 'half.onnx', half=True)
    session = open_session(result.path)
    types = [x.type for x in (*session.get_inputs(), *session.get_outputs())]
    assert types == ['tensor(float)'] * 2
    weights = onnx.load(result.path).graph.initializer
    assert any(w.data_type == onnx.TensorProto.FLOAT16 for w in weights)
    assert result.axes == ()


def test_network_that_computes_something_else_leaves_no_file(model, tmp_path):
    model.decode_head.register_forward_hook(
        lambda module, inputs, logits: logits + torch.rand_like(logits)
    )
    with pytest.raises(ExportError, match='computes something else: random'):
        export_onnx(model, tmp_path / 'noise.onnx')
    assert not list(tmp_path.iterdir())


def test_failure_keeps_an_earlier_file(model, tmp_path):
    path = tmp_path / 'net.onnx'
    path.write_text('an earlier one')
    model.decode_head.register_forward_hook(
        lambda module, inputs, logits: torch.special.bessel_j0(logits)
    )
    with pytest.raises(ExportError, match='bessel_j0 has no counterpart'):
        export_onnx(model, path)
    assert path.read_text() == 'an earlier one'


def test_experts_are_sorted_as_pytorch_does(tmp_path):
    from mmseg_uhr.deployment.operators import translations

    class Sorted(torch.nn.Module):
        def forward(self, x):
            order = x.argsort(stable=True)
            return order, torch.searchsorted(x[order], x, right=True)

    x = torch.tensor([3, 1, 3, 0, 1, 1, 2])
    path = tmp_path / 'sorted.onnx'
    torch.onnx.export(
        Sorted().eval(),
        (x,),
        str(path),
        dynamo=True,
        verbose=False,
        custom_translation_table=translations(),
    )
    session = open_session(path)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for one, expected in zip(found, Sorted()(x)):
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(opset=11), 'opset 11: expected 18 to'),
        (dict(size=(0, 32)), 'size 0 x 32'),
        (dict(normalise=False, uint8=True), 'bytes cannot be normalised'),
        (dict(path='net.pb'), 'ends in .onnx'),
        (dict(path='none/net.onnx'), 'there is no folder'),
    ],
)
def test_options_that_make_no_sense_are_refused(
    model, tmp_path, options, message
):
    path = tmp_path / options.pop('path', 'net.onnx')
    with pytest.raises(ExportError, match=message):
        export_onnx(model, path, **options)


def test_padding_of_the_preprocessor_is_refused(model, tmp_path):
    model.data_preprocessor.test_cfg = dict(size_divisor=24)
    with pytest.raises(ExportError, match='needs no padding'):
        export_onnx(model, tmp_path / 'net.onnx')


def test_scene_smaller_than_a_window_is_refused(model, scenes):
    network = WindowNetwork(model)
    with pytest.raises(RasterError, match='96 x 128 pixels, smaller than'):
        read_windows(model, network, scenes / 'images/a.tif', (200, 200))


@pytest.mark.parametrize(
    'max_abs, agreement, half, holds',
    [
        (9e-4, 1.0, False, True),
        (2e-3, 1.0, False, False),
        (1e-4, 0.998, False, False),
        (2e-2, 0.995, True, True),
        (float('nan'), 1.0, True, False),
        (float('nan'), 1.0, False, False),
    ],
)
def test_what_holds(max_abs, agreement, half, holds):
    assert Parity((1,), max_abs, agreement, 1, 1).holds(half) == holds


def test_tool_ends_with_one_sentence(
    run_tool, tiny_config, trained, tmp_path, capsys
):
    weights = trained / 'iter_40.pth'
    with pytest.raises(SystemExit, match=r'^export.py: opset 9: expected'):
        run_tool(
            'deployment/export.py',
            tiny_config,
            weights,
            '--out',
            tmp_path / 'net.onnx',
            '--opset',
            9,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, inputs',
    [
        ('hgn/hgn_r18-w16', ('local',)),
        ('isdnet/isdnet_r18-w16', ('local',)),
        ('sghrq/sghrq_r18-w16', ('local',)),
        ('hlrc/hlrc_w16', ('local',)),
        ('fctl/fctl-fpn_r18-w16', ('local', 'large')),
        (
            'lcf_ale/lcf-ale-fpn_r18-w16',
            ('local', 'large', 'box_large'),
        ),
        ('baselines/segformer_mit-b0', ('local',)),
        ('baselines/stdc1-w16', ('local',)),
        ('baselines/deeplabv3plus_r18-w16-d8', ('local',)),
    ],
)
def test_methods_are_exported(name, inputs, tmp_path):
    path = ROOT / 'configs' / f'{name}_5min_bluemarble-192x192.py'
    cfg = Config.fromfile(path)
    init_default_scope('mmseg')
    model = MODELS.build(streaming_config(cfg.model)).eval()
    result = export_onnx(model, tmp_path / 'net.onnx', (192, 192))
    assert result.inputs == inputs
