"""Exported networks segment scenes as PyTorch does, and without it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_uhr.apis import UHRInferencer, init_segmentor
from mmseg_uhr.deployment import OnnxSegmentor, export_onnx
from mmseg_uhr.deployment.runtime import OnnxPredictor
from mmseg_uhr.deployment.runtime_session import Session
from mmseg_uhr.models.segmentors import streaming_config
from mmseg_uhr.models.segmentors.window_predictor import WindowPredictor
from mmseg_uhr.rasters import ArrayRaster, open_raster, write_geotiff
from mmseg_uhr.streaming import Outputs, StreamSettings
from mmseg_uhr.streaming.loop import read_batches
from mmseg_uhr.streaming.out_of_memory import is_out_of_memory

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120


@pytest.fixture(scope='module')
def model(tiny_config, trained):
    return init_segmentor(tiny_config, trained / 'iter_40.pth', 'cpu')


@pytest.fixture(scope='module')
def network(tmp_path_factory, model, scenes):
    """A file of bytes whose sizes may vary."""
    path = tmp_path_factory.mktemp('network') / 'tiny.onnx'
    scene = scenes / 'images' / 'a.tif'
    return export_onnx(model, path, dynamic=True, uint8=True, scene=scene).path


@pytest.fixture(scope='module')
def fixed(tmp_path_factory, model):
    """A file of one size and one window at a time."""
    path = tmp_path_factory.mktemp('fixed') / 'fixed.onnx'
    return export_onnx(model, path).path


def inferencers(tiny_config, trained, path, **test_cfg):
    """The same network by PyTorch and by onnxruntime."""
    options = {f'model.test_cfg.{k}': v for k, v in test_cfg.items()}
    checkpoint = trained / 'iter_40.pth'
    return (
        UHRInferencer(tiny_config, checkpoint, 'cpu', cfg_options=options),
        UHRInferencer(path, cfg_options=options, backend='onnxruntime'),
    )


def agreement(found, expected):
    return (found == expected).mean()


@pytest.mark.parametrize(
    'test_cfg',
    [
        {},
        dict(blend='gaussian', batch_size=3),
        dict(blend='centre', placement='even'),
        dict(tta='d4'),
        dict(tta='flip', tta_scales=(1.0, 1.5), blend='hann'),
        dict(crop_size=(40, 56), stride=(30, 40)),
        dict(accumulator='float16'),
    ],
    ids=str,
)
def test_maps_are_those_of_torch(
    tiny_config, trained, network, scenes, test_cfg
):
    both = inferencers(tiny_config, trained, network, **test_cfg)
    for name in 'abc':
        scene = scenes / 'images' / f'{name}.tif'
        expected, found = (
            one(
                scene,
                probabilities=['blue', 0],
                confidence=True,
                progress=False,
            )
            for one in both
        )
        assert found.labels.dtype == expected.labels.dtype == np.uint8
        assert set(np.unique(found.labels)) == {0, 1, 2}
        assert agreement(found.labels, expected.labels) >= 0.999
        # Of 255; rounding may go either way.
        for kind in ('probabilities', 'confidence'):
            one, other = getattr(found, kind), getattr(expected, kind)
            assert one.shape == other.shape
            difference = one.astype(int) - other
            assert abs(difference).max() <= (
                2 if 'accumulator' in test_cfg else 1
            )


def test_logits_are_those_of_torch(model, network, scenes):
    path = scenes / 'images' / 'a.tif'
    settings = StreamSettings((48, 40), (24, 20), 3, tta='d4')
    segmentor = OnnxSegmentor(network)
    raster = segmentor.loader().open(str(path))
    plan = settings.plan(raster.shape)
    by_torch = WindowPredictor(model, settings, True)
    by_onnx = OnnxPredictor(Session(network), segmentor.views, settings)
    for tensors, arrays in zip(
        *(
            read_batches(raster, plan, model.views, 3, (0, 96), tensors=kind)
            for kind in (True, False)
        ),
        strict=True,
    ):
        with torch.no_grad():
            expected = by_torch(tensors).numpy()
        np.testing.assert_allclose(by_onnx(arrays), expected, atol=1e-3)


def test_settings_are_those_of_the_config(model, network, fixed):
    segmentor = OnnxSegmentor(network)
    assert segmentor.settings == StreamSettings((32, 32), (24, 24), 4)
    assert segmentor.dataset_meta['classes'] == ['red', 'green', 'blue']
    assert OnnxSegmentor(fixed).settings.batch_size == 1
    options = {'model.test_cfg.crop_size': [64, 96]}
    # The overlap keeps its share of the window.
    assert OnnxSegmentor(
        network, cfg_options=options
    ).settings == StreamSettings((64, 96), (48, 72), 4)


def test_a_file_of_one_size(tiny_config, trained, fixed, scenes):
    expected, found = (
        one(scenes / 'images' / 'a.tif', progress=False).labels
        for one in inferencers(tiny_config, trained, fixed)
    )
    assert agreement(found, expected) >= 0.999


@pytest.mark.parametrize('shape', [(20, 100), (100, 9), (5, 7)])
def test_scenes_smaller_than_the_one_size(fixed, model, shape):
    """They are what is left of the padded ones; files or arrays."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
    padded = np.zeros((*(max(side, 32) for side in shape), 3), np.uint8)
    padded[: shape[0], : shape[1]] = pixels
    segmentor = OnnxSegmentor(fixed)
    found = [
        np.concatenate([getattr(rows, kind) for rows in parts], axis=-2)
        for parts in [list(segmentor.stream(pixels, Outputs((1,), True)))]
        for kind in ('labels', 'probabilities', 'confidence')
    ]
    expected = torch.cat([rows.labels for rows in model.stream(padded)])
    expected = expected.numpy()[: shape[0], : shape[1]]
    assert found[0].shape == found[2].shape == shape
    assert found[1].shape == (1, *shape)
    assert agreement(found[0], expected) >= 0.999


def test_small_scenes_with_pixels_that_have_no_data(fixed, tmp_path):
    image = np.full((20, 90, 3), 200, np.uint8)
    image[:, :40] = 0
    path, out = tmp_path / 'a.tif', tmp_path / 'map.tif'
    write_geotiff(path, image)
    with rasterio.open(path, 'r+') as file:
        file.nodata = 0
    UHRInferencer(fixed, backend='onnxruntime')(path, out, progress=False)
    with rasterio.open(out) as file:
        labels = file.read(1)
    assert labels.shape == (20, 90)
    assert (labels[:, :40] == 255).all()
    assert (labels[:, 40:] < 3).all()


def test_all_that_is_written(network, scenes, tmp_path):
    pytest.importorskip('shapely')
    inferencer = UHRInferencer(network, backend='onnxruntime')
    out = tmp_path / 'maps'
    results = inferencer(
        scenes / 'images',
        out,
        cog=True,
        overlay=tmp_path / 'overlays',
        polygons=tmp_path / 'polygons',
        confidence=True,
        progress=False,
    )
    assert [result.skipped for result in results] == [False] * 3
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f'{name}{kind}.tif' for name in 'abc' for kind in ('', '.confidence')
    )
    assert len(list((tmp_path / 'overlays').iterdir())) == 3
    assert len(list((tmp_path / 'polygons').iterdir())) == 3
    again = inferencer(
        scenes / 'images', out, cog=True, confidence=True, resume=True
    )
    assert [result.skipped for result in again] == [True] * 3


def test_a_run_of_torch_is_another_run(
    tiny_config, trained, network, scenes, tmp_path
):
    scene, out = scenes / 'images' / 'a.tif', tmp_path / 'map.tif'
    by_torch, by_onnx = inferencers(tiny_config, trained, network)
    by_torch(scene, out, progress=False)
    result = by_onnx(scene, out, resume=True, progress=False)
    assert not result.skipped
    assert by_onnx(scene, out, resume=True, progress=False).skipped


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, options',
    [
        ('hgn/hgn_r18-w16', dict(dynamic=True)),
        ('sghrq/sghrq_r18-w16', dict(dynamic=True)),
        ('fctl/fctl-fpn_r18-w16', {}),
        ('lcf_ale/lcf-ale-fpn_r18-w16', {}),
    ],
)
def test_methods_with_their_contexts(name, options, tmp_path):
    path = ROOT / 'configs' / f'{name}_5min_bluemarble-192x192.py'
    cfg = Config.fromfile(path)
    init_default_scope('mmseg')
    model = MODELS.build(streaming_config(cfg.model)).eval()
    model.test_cfg.update(crop_size=(192, 192), stride=(128, 128))
    path = tmp_path / 'net.onnx'
    export_onnx(model, path, (192, 192), **options)
    # Blobs, so that a network of random weights has something to tell.
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 11, 3)).astype(np.uint8)
    pixels = pixels.repeat(40, 0).repeat(40, 1)[:340, :430]
    segmentor = OnnxSegmentor(path)
    rows = list(segmentor.stream(ArrayRaster(pixels)))
    found = np.concatenate([one.labels for one in rows])
    rows = list(model.stream(ArrayRaster(pixels)))
    expected = torch.cat([one.labels for one in rows]).numpy()
    assert agreement(found, expected) >= 0.999


@pytest.mark.parametrize(
    'options, message',
    [
        ({'model.test_cfg.stride': (40, 40)}, 'stride .* is larger than'),
        ({'model.test_cfg.blend': 'odd'}, "blend='odd'"),
        ({'model.test_cfg.crop_size': 64}, r'crop_size=64: expected \(height'),
        ({'model.backbone.depth': 50}, 'has no config; only model.test_cfg'),
        ({'model.test_cfg.mode': 'slide'}, 'has no config'),
    ],
)
def test_options_that_make_no_sense(network, options, message):
    with pytest.raises(ValueError, match=message):
        OnnxSegmentor(network, cfg_options=options)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(crop_size=(64, 64)), r'windows of \(32, 32\) only'),
        (dict(batch_size=4), 'takes one window at a time'),
        (dict(tta_scales=(0.5, 1.0)), 'views of one size only'),
    ],
)
def test_what_a_file_of_one_size_refuses(fixed, options, message):
    options = {f'model.test_cfg.{k}': v for k, v in options.items()}
    with pytest.raises(ValueError, match=message):
        OnnxSegmentor(fixed, cfg_options=options)


def test_scaled_windows_are_multiples_where_a_file_wants_them(
    network, tmp_path, monkeypatch
):
    path = tmp_path / 'net.onnx'
    graph = onnx.load(network)
    for known in graph.metadata_props:
        if known.key == 'mmseg_uhr.multiple':
            known.value = '32'
    onnx.save(graph, path)
    options = {'model.test_cfg.tta_scales': (1.0, 1.5)}
    with pytest.raises(ValueError, match='takes multiples of 32'):
        OnnxSegmentor(path, cfg_options=options)
    options['model.test_cfg.crop_size'] = (64, 128)
    segmentor = OnnxSegmentor(path, cfg_options=options)
    seen, run = [], Session.run

    def recorded(session, inputs):
        seen.append(inputs['local'].shape[2:])
        return run(session, inputs)

    monkeypatch.setattr(Session, 'run', recorded)
    (rows,) = segmentor.stream(np.zeros((20, 40, 3), np.uint8))
    assert rows.labels.shape == (20, 40)
    assert seen == [(64, 128), (96, 192)]


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(budget='1GiB'), 'no budget can be planned'),
        (dict(precision='bf16'), 'precision: not for an exported network'),
        (dict(checkpoint='a.pth'), 'checkpoint: not for an exported'),
        (dict(device='tpu'), "expected 'cpu', 'cuda' or 'tensorrt'"),
        (dict(device='cuda:x'), "expected 'cpu', 'cuda' or 'tensorrt'"),
        (dict(backend='tvm'), "backend 'tvm': expected one of"),
        (dict(backend='torch'), 'give a checkpoint, too'),
    ],
)
def test_arguments_that_do_not_fit(network, arguments, message):
    arguments = {'backend': 'onnxruntime', **arguments}
    with pytest.raises(ValueError, match=message):
        UHRInferencer(network, **arguments)


def test_providers_that_are_not_there(network):
    import onnxruntime

    if 'CUDAExecutionProvider' in onnxruntime.get_available_providers():
        pytest.skip('this onnxruntime has CUDA')
    with pytest.raises(ValueError, match='no CUDA.*onnxruntime-gpu'):
        OnnxSegmentor(network, 'cuda')


def test_files_that_are_no_networks(tmp_path, model):
    path = tmp_path / 'net.onnx'
    with pytest.raises(ValueError, match='no such file'):
        OnnxSegmentor(path)
    path.write_bytes(b'nothing')
    with pytest.raises(ValueError, match='onnxruntime cannot open it'):
        OnnxSegmentor(path)
    export_onnx(model, path, normalise=False)
    with pytest.raises(ValueError, match='without --no-normalise'):
        OnnxSegmentor(path)
    foreign = onnx.load(path)
    del foreign.metadata_props[:]
    onnx.save(foreign, path)
    with pytest.raises(ValueError, match='only files of tools/deployment'):
        OnnxSegmentor(path)


# What a machine without PyTorch is like.
WITHOUT = """
import sys, time

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'mmengine', 'mmcv', 'mmseg'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Without())
"""
# The tool, with time to end it half-way.
TOOL = """
from mmseg_uhr.streaming import parts
import runpy
write, slow = parts.write_arrays, float(sys.argv[1])
parts.write_arrays = lambda *args: (time.sleep(slow), write(*args))
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def start(code, *arguments):
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.Popen(
        [sys.executable, '-c', WITHOUT + code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(code, *arguments):
    process = start(code, *arguments)
    return process.communicate(timeout=PATIENCE)[0], process.returncode


def segment(*arguments, slow=0):
    return start(TOOL, slow, ROOT / 'tools' / 'segment.py', *arguments)


def test_what_is_there_without_torch():
    text, code = run("""
import mmseg_uhr
from mmseg_uhr import rasters, streaming, tiling
from mmseg_uhr.apis import UHRInferencer, write_overlay
from mmseg_uhr.deployment import OnnxSegmentor
assert not {'torch', 'mmengine', 'mmcv', 'mmseg'} & set(sys.modules)

def refused(module, name):
    try:
        exec(f'from {module} import {name}')
    except ImportError as error:
        assert f'{module}.{name} needs PyTorch' in str(error), error
        assert '[onedl]' in str(error) and '[openmmlab]' in str(error)
        return
    raise AssertionError(name)

refused('mmseg_uhr.apis', 'init_segmentor')
refused('mmseg_uhr', 'models')
refused('mmseg_uhr.deployment', 'export_onnx')
try:
    UHRInferencer('config.py', 'weights.pth')
except ImportError as error:
    assert 'mmsegmentation-uhr[onedl]' in str(error)
assert not hasattr(mmseg_uhr, 'nothing')
print('fine')
""")
    assert (text, code) == ('fine\n', 0)


def test_maps_without_torch(network, tiny_config, trained, scenes, tmp_path):
    """The tool, in a process that cannot import PyTorch."""
    out = tmp_path / 'map.tif'
    report = tmp_path / 'report.json'
    process = segment(
        *(network, scenes / 'images' / 'b.tif', '--out', out, '--quiet'),
        *('--stride', 20, 20, '--tta', 'flip', '--report', report),
    )
    text = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, text
    by_torch, _ = inferencers(
        tiny_config, trained, network, stride=(20, 20), tta='flip'
    )
    expected = by_torch(scenes / 'images' / 'b.tif', progress=False).labels
    assert agreement(open_raster(out).read()[..., 0], expected) >= 0.999
    assert json.loads(report.read_text())['device_mib'] == 0


@pytest.mark.parametrize(
    'arguments, message',
    [
        (('config.py', 'weights.pth', 'a.tif'), 'mmsegmentation-uhr[onedl]'),
        (('net.onnx', 'a.tif'), 'net.onnx: no such file'),
        (('net.onnx',), 'or a network (.onnx) and scenes'),
    ],
)
def test_errors_without_torch(arguments, message, tmp_path):
    process = segment(*arguments, '--out', tmp_path / 'map.tif')
    text = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode in (1, 2)
    assert message in text
    assert 'Traceback' not in text


def test_killed_and_resumed_without_torch(network, tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (512, 16, 3), np.uint8)
    image = image.repeat(8, 0).repeat(4, 1)
    write_geotiff(tmp_path / 'scene.tif', image)
    arguments = network, tmp_path / 'scene.tif', '--quiet', '--out'
    process = segment(*arguments, tmp_path / 'expected.tif')
    assert process.wait(PATIENCE) == 0
    out = tmp_path / 'map.tif'
    parts = Path(f'{out}.parts')
    process = segment(*arguments, out, slow=0.5)
    end = time.monotonic() + PATIENCE
    while len(list(parts.glob('rows-*.npz'))) < 3:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    assert 3 <= len(list(parts.glob('rows-*.npz'))) < 8
    process = segment(*arguments, out)
    text = process.communicate(timeout=PATIENCE)[0]
    assert (process.returncode, 'add --resume' in text) == (1, True)
    process = segment(*arguments, out, '--resume')
    text = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0
    assert 'MP were there' in text
    expected = (tmp_path / 'expected.tif').read_bytes()
    assert out.read_bytes() == expected
    assert not parts.exists()


def test_memory_that_does_not_suffice(network):
    """onnxruntime says so in words that are understood."""
    text, code = run(
        """
import resource
import numpy as np
from mmseg_uhr.deployment.runtime_session import Session
from mmseg_uhr.streaming.out_of_memory import is_out_of_memory
session = Session(sys.argv[1])
window = np.zeros((1, 3, 6000, 6000), np.uint8)
with open('/proc/self/statm') as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 500 * 2**20,) * 2)
try:
    session.run({'local': window})
except Exception as error:
    print(is_out_of_memory(error), type(error).__module__)
""",
        network,
    )
    assert code == 0, text
    assert 'True onnxruntime.' in text


def test_other_errors_of_the_runtime(network):
    with pytest.raises(Exception, match='(?i)invalid') as caught:
        Session(network).run({'local': np.zeros((1, 5, 32, 32), np.uint8)})
    assert not is_out_of_memory(caught.value)
