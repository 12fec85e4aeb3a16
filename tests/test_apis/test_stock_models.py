"""Unmodified configs of MMSegmentation stream what stock's windows predict."""

from importlib.util import find_spec
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_uhr.apis import init_segmentor
from mmseg_uhr.models.segmentors import StreamingSegmentor
from mmseg_uhr.streaming import Outputs

CONFIGS = Path(mmseg.__file__).parent / '.mim' / 'configs'
WINDOWS = {
    'model.test_cfg.crop_size': (128, 128),
    'model.test_cfg.stride': (96, 96),
}
SHAPE = (200, 300)
needs_operators = pytest.mark.skipif(
    find_spec('mmcv._ext') is None, reason='needs the operators of mmcv'
)

SWIN = (
    'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512'
)
# Configs, and what makes the larger ones small.
QUICK = {
    'deeplabv3plus/deeplabv3plus_r18-d8_4xb4-80k_loveda-512x512': {},
    'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512': {},
    'stdc/stdc1_4xb12-80k_cityscapes-512x1024': {},
    'segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512': {},
    'unet/unet-s5-d16_fcn_4xb4-40k_hrf-256x256': {
        'model.backbone.base_channels': 8,
        'model.decode_head.in_channels': 8,
        'model.auxiliary_head.in_channels': 16,
    },
    SWIN: {
        'model.backbone.depths': (1, 1, 1, 1),
        'model.decode_head.channels': 64,
    },
    'ocrnet/ocrnet_hr18s_4xb4-40k_voc12aug-512x512': {},
    'point_rend/pointrend_r50_4xb4-160k_ade20k-512x512': {
        'model.backbone.base_channels': 8,
        'model.neck.in_channels': [32, 64, 128, 256],
    },
}
FULL = (
    'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512',
    SWIN,
    'segmenter/segmenter_vit-s_mask_8xb1-160k_ade20k-512x512',
    'ocrnet/ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024',
    'point_rend/pointrend_r50_4xb4-160k_ade20k-512x512',
    'san/san-vit-b16_voc12aug-640x640',
)


def cases(names):
    """Parameters of a test; some configs need mmcv's operators."""
    return [
        pytest.param(
            name,
            marks=needs_operators
            if name.startswith(('point_rend', 'san'))
            else (),
            id=name.split('/')[1].split('_4xb')[0].split('_8xb')[0],
        )
        for name in names
    ]


def build_stock(path, options):
    """Build the stock model with random weights that predict all classes."""
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options)
    init_default_scope('mmseg')
    cfg.model.update(pretrained=None, train_cfg=None)
    cfg.model.test_cfg.mode = 'slide'
    model = MODELS.build(cfg.model).eval()
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    for norm in norms:
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.1)
    if hasattr(model, 'text_encoder'):
        # Stock leaves its parameters as they lie in memory, and makes all
        # queries alike, whose classes would tie.
        for parameter in model.text_encoder.parameters():
            nn.init.normal_(parameter, std=0.05)
        for name, parameter in model.decode_head.named_parameters():
            if 'query' in name:
                nn.init.normal_(parameter)
    heads = model.decode_head
    head = heads[-1] if isinstance(heads, nn.ModuleList) else heads
    classify = getattr(head, 'conv_seg', None)
    if isinstance(classify, nn.Conv2d):
        # Else one class would win everywhere.
        seen = []
        hook = classify.register_forward_hook(
            lambda module, inputs, output: seen.append(output)
        )
        size = torch.Size((128, 128))
        with torch.no_grad():
            model.encode_decode(
                torch.randn(1, 3, *size), [dict(img_shape=size)]
            )
        hook.remove()
        logits = seen[-1].flatten(2)[0]
        spread = logits.std(dim=1).clamp_min(1e-6)
        classify.weight.data /= spread[:, None, None, None]
        classify.bias.data -= logits.mean(dim=1)
        classify.bias.data /= spread
    return model


def scene(shape):
    """A scene of coloured squares."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (3, *[side // 8 + 1 for side in shape]))
    image = coarse.repeat(8, 1).repeat(8, 2)[:, : shape[0], : shape[1]]
    return torch.from_numpy(image.astype(np.uint8))


def check(name, options, folder, shape=SHAPE):
    """Compare the streamed label map of a config with stock's."""
    path = CONFIGS / f'{name}.py'
    options = {**WINDOWS, **options}
    stock = build_stock(path, options)
    torch.save(dict(state_dict=stock.state_dict()), folder / 'random.pth')
    model = init_segmentor(
        path, folder / 'random.pth', 'cpu', cfg_options=options
    )
    assert isinstance(model, StreamingSegmentor)
    assert set(model.state_dict()) == set(stock.state_dict())
    image = scene(shape)
    sample = SegDataSample(
        metainfo=dict(ori_shape=shape, img_shape=shape, pad_shape=shape)
    )
    with torch.no_grad():
        expected = stock.test_step(
            dict(inputs=[image], data_samples=[sample])
        )[0]
    rows = list(model.stream(image, outputs=Outputs(probabilities=(0, 1))))
    found = torch.cat([one.labels for one in rows])
    differs = expected.pred_sem_seg.data[0] != found
    logits = expected.seg_logits.data
    best = logits.topk(2, dim=0).values
    is_tie = best[0] - best[1] <= 1e-4
    assert not (differs & ~is_tie).any()
    probabilities = torch.cat([one.probabilities for one in rows], dim=1)
    difference = probabilities - logits.softmax(dim=0)[:2] * 255
    assert difference.abs().max() <= 1
    return len(found.unique()), is_tie.float().mean()


@pytest.mark.parametrize('name', cases(QUICK))
def test_streams_as_stock(name, tmp_path):
    classes, ties = check(name, QUICK[name], tmp_path)
    assert classes > 1
    assert ties < 0.01


@pytest.mark.slow
@pytest.mark.parametrize('name', cases(FULL))
def test_streams_as_stock_at_full_size(name, tmp_path):
    # SAN's config pads to multiples of 32: stock the scene, we the windows.
    shape = (192, 320) if name.startswith('san') else SHAPE
    classes, ties = check(name, {}, tmp_path, shape)
    # A random SAN hardly tells its classes apart; its probabilities count.
    assert name.startswith('san') or (classes > 1 and ties < 0.01)


@pytest.mark.parametrize('kind', ['SegTTAModel', 'DepthEstimator', 'Unknown'])
def test_models_that_cannot_stream(kind, tmp_path):
    cfg = Config(dict(model=dict(type=kind)))
    with pytest.raises(ValueError, match='EncoderDecoder.*test_cfg.tta'):
        init_segmentor(cfg, tmp_path / 'none.pth', 'cpu')


def test_a_config_without_a_model(tmp_path):
    part = CONFIGS / '_base_' / 'schedules' / 'schedule_20k.py'
    with pytest.raises(ValueError, match='schedule_20k.py: has no model'):
        init_segmentor(part, tmp_path / 'none.pth', 'cpu')
