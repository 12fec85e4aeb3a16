import copy
import logging
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.runner.amp import autocast

from mmseg_uhr.apis import init_segmentor
from mmseg_uhr.models.segmentors import UHREncoderDecoder, streaming_config
from mmseg_uhr.rasters import open_raster
from mmseg_uhr.streaming import Outputs

needs_compiler = pytest.mark.skipif(
    shutil.which('g++') is None, reason='needs a C++ compiler'
)


@pytest.fixture
def build(tiny_config, trained):
    """Callable: the trained tiny model, built with options."""

    def build(device='cpu', **options):
        return init_segmentor(
            tiny_config, trained / 'iter_40.pth', device, **options
        )

    return build


@pytest.fixture(scope='session')
def image(scenes):
    """A scene with bands as the models expect them."""
    return open_raster(scenes / 'images' / 'a.tif', (3, 2, 1)).read()


def confidences(model, image):
    """Labels (H, W) and probabilities (classes, H, W) of a scene."""
    every = Outputs(probabilities=tuple(range(model.out_channels)))
    rows = list(model.stream(image, outputs=every))
    return (
        torch.cat([found.labels for found in rows]),
        torch.cat([found.probabilities for found in rows], dim=1).int(),
    )


def dtypes_of(model):
    """Record the types of the windows and the logits of a model."""
    seen = []
    model.decode_head.conv_seg.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    return seen


@pytest.fixture
def warnings_of(caplog):
    """Callable: the texts of warnings that were logged."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    # Runs of other tests may have silenced it.
    level = logger.level
    logger.setLevel(logging.INFO)
    yield lambda: [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]
    logger.setLevel(level)
    logger.removeHandler(caplog.handler)


def test_bf16_is_close_and_summed_in_fp32(build, image):
    model = build(precision='bf16')
    seen = dtypes_of(model)
    labels, probabilities = confidences(model, image)
    assert set(seen) == {torch.bfloat16}
    assert model.decode_head.conv_seg.weight.dtype == torch.float32
    expected, plain = confidences(build(), image)
    assert (labels == expected).float().mean() > 0.98
    assert (probabilities - plain).abs().float().mean() < 2


def test_bf16_with_augmentation(build, image):
    options = {
        'model.test_cfg.tta': 'flip',
        'model.test_cfg.tta_scales': (1.0, 1.5),
    }
    labels, _ = confidences(
        build(precision='bf16', cfg_options=options), image
    )
    expected, _ = confidences(build(cfg_options=options), image)
    assert (labels == expected).float().mean() > 0.98


@pytest.mark.parametrize(
    'precision, message',
    [('fp16', "not for CPUs.*use 'bf16'"), ('int8', "'fp32', 'fp16', 'bf16'")],
)
def test_precisions_that_cannot_be(build, precision, message):
    with pytest.raises(ValueError, match=message):
        build(precision=precision)


def test_the_autocast_of_a_test_loop_holds(build, image):
    """MMEngine's ``TestLoop(fp16=True)`` wraps ``test_step``."""
    model = build()
    seen = dtypes_of(model)
    image = torch.from_numpy(image).permute(2, 0, 1)
    with autocast(device_type='cpu', enabled=True):
        model.test_step(dict(inputs=[image]))
    assert set(seen) == {torch.bfloat16}


def test_channels_last(build, image):
    model = build(channels_last=True)
    seen = []
    model.backbone.register_forward_pre_hook(
        lambda module, inputs: seen.append(
            inputs[0].is_contiguous(memory_format=torch.channels_last)
        )
    )
    labels, probabilities = confidences(model, image)
    assert all(seen)
    expected, plain = confidences(build(), image)
    assert (labels == expected).float().mean() > 0.999
    assert (probabilities - plain).abs().max() <= 1


@pytest.mark.slow
@needs_compiler
def test_compiled_models_predict_the_same(build, image):
    model = build(compile=True)
    plain = build()
    x = torch.randn(4, 3, 32, 32)
    metas = [
        dict(img_shape=x.shape[2:], pad_shape=x.shape[2:], ori_shape=(32, 32))
    ] * 4
    with torch.no_grad():
        torch.testing.assert_close(
            model.execution(model, x, metas),
            plain.execution(plain, x, metas),
            rtol=1e-4,
            atol=1e-4,
        )
    # The windows of a scene and their places do not make it compile again.
    image = image[:80, :104]  # Three batches of four windows.
    with torch.compiler.set_stance('fail_on_recompile'):
        labels, _ = confidences(model, image)
    expected, _ = confidences(plain, image)
    assert (labels == expected).float().mean() > 0.999


def test_a_failing_compiler_warns_once(
    build, image, warnings_of, monkeypatch, tmp_path
):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, 'cxx', (None, str(tmp_path / 'no-g++')))
    monkeypatch.setattr(config, 'force_disable_caches', True)
    torch.compiler.reset()
    labels, _ = confidences(build(compile=True), image)
    expected, _ = confidences(build(), image)
    assert torch.equal(labels, expected)
    told = [text for text in warnings_of() if 'cannot be compiled' in text]
    assert len(told) == 1
    assert 'no-g++' in told[0]


def test_weights_folded_for_good_predict_the_same(build, image, monkeypatch):
    monkeypatch.setattr(torch, 'compile', lambda model, **options: model)
    model = build(compile=True)
    assert 'decode_head.convs.0.bn.weight' not in model.state_dict()
    labels, probabilities = confidences(model, image)
    expected, plain = confidences(build(), image)
    assert (labels == expected).float().mean() > 0.999
    assert (probabilities - plain).abs().max() <= 1


def test_windows_of_a_config_that_predicts_whole(tiny_config, trained):
    cfg = Config.fromfile(tiny_config)
    cfg.model.type = 'EncoderDecoder'
    cfg.model.data_preprocessor.type = 'SegDataPreProcessor'
    cfg.model.test_cfg = dict(mode='whole')
    checkpoint = trained / 'iter_40.pth'
    model = init_segmentor(copy.deepcopy(cfg), checkpoint, 'cpu')
    assert model.test_cfg.crop_size == (1024, 1024)
    assert model.test_cfg.stride == (683, 683)
    # The step follows a crop size of one's own.
    smaller = {'model.test_cfg.crop_size': (96, 64)}
    model = init_segmentor(cfg, checkpoint, 'cpu', smaller)
    assert tuple(model.test_cfg.stride) == (64, 43)


@pytest.mark.gpu
def test_gpus_predict_what_cpus_do(build, image):
    expected, plain = confidences(build(), image)
    labels, probabilities = confidences(build('cuda'), image)
    top = plain.topk(2, dim=0).values
    is_tie = top[0] - top[1] <= 1
    assert ((labels == expected) | is_tie).all()
    assert (probabilities - plain).abs().max() <= 1
    half, probabilities = confidences(build('cuda', precision='fp16'), image)
    assert (half == expected).float().mean() > 0.99
    assert (probabilities - plain).abs().float().mean() < 1
    # Pinned copies in flight are not overwritten by the next windows.
    tall = np.tile(image, (8, 1, 1))
    first, _ = confidences(build('cuda'), tall)
    second, _ = confidences(build(), tall)
    assert (first == second).float().mean() > 0.999


def test_a_config_for_stripes_streams_too():
    cfg = ConfigDict(
        type='EncoderDecoder', test_cfg=dict(mode='whole', stripe_rows=512)
    )
    found = streaming_config(cfg)
    assert found.type is UHREncoderDecoder
    assert found.test_cfg == dict(
        mode='stream', crop_size=(1024, 1024), stride=(683, 683)
    )
    assert cfg.test_cfg == dict(mode='whole', stripe_rows=512)
