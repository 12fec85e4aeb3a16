import copy
import itertools
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.models.decode_heads import STDCHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import nn

import mmseg_uhr  # noqa: F401
from mmseg_uhr.memory import model_cost
from mmseg_uhr.models.backbones import ShallowSTDC, shallow_stdc
from mmseg_uhr.models.layers import GSAG, LSAG
from mmseg_uhr.models.layers.lsag import FlowAlign
from mmseg_uhr.models.necks import HGNNeck

CONFIGS = Path(__file__).parents[2] / 'configs'
BASE = Config.fromfile(CONFIGS / '_base_/models/hgn_r18.py').model


@pytest.fixture(autouse=True)
def _setup():
    register_all_modules()


def full(num_classes=7, **changes):
    """The published-size model; keys of changes use '__' for dots."""
    config = copy.deepcopy(BASE)
    config.decode_head.num_classes = num_classes
    for head in config.auxiliary_head:
        head.num_classes = num_classes
    for key, value in changes.items():
        *path, last = key.split('__')
        node = config
        for name in path:
            node = node[name]
        node[last] = value
    return config


def tiny(**changes):
    """The same with a few channels per layer."""
    config = full(3, **changes)
    encoder = config.backbone
    encoder.shallow.channels = (4, 8, 16, 24)
    encoder.deep.update(base_channels=4, stem_channels=4)
    expansion = 4 if encoder.deep.depth == 50 else 1
    deep = tuple(c * expansion for c in (8, 16, 32))
    if encoder.graft:
        encoder.graft.update(
            shallow_channels=24, channels=8, num_heads=2, num_descriptors=4
        )
    encoder.graft_channels = deep
    # Two channels behind a ReLU without a norm are often dead by chance.
    leaky = dict(type='LeakyReLU')
    config.neck.update(in_channels=deep, channels=8, act_cfg=leaky)
    config.decode_head.update(
        in_channels=(16, 24, 8), align_channels=(8, 8), channels=8
    )
    config.auxiliary_head[0].update(in_channels=8, channels=8)
    config.auxiliary_head[1].update(
        in_channels=24, channels=8, embed_channels=8
    )
    return config


def build(config):
    return revert_sync_batchnorm(MODELS.build(config))


def batch(size, n=2, num_classes=3):
    label = torch.randint(0, num_classes, (n, 1, 2, 3)).float()
    label = nn.functional.interpolate(label, size).to(torch.uint8)
    label[:, :, :5, :5] = 255
    image = torch.randn(n, 3, *size) + label.clamp(max=num_classes)
    return image, [
        SegDataSample(
            gt_sem_seg=PixelData(data=one),
            metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size),
        )
        for one in label
    ]


def total(losses):
    return sum(value for key, value in losses.items() if 'loss' in key)


VARIANTS = [
    dict(backbone__graft__aggregate=aggregate, decode_head__graft__align=align)
    for aggregate, align in itertools.product(
        ('descriptors', 'exact', 'grid', 'gap'),
        ('flow', 'window', 'bilinear'),
    )
] + [
    dict(backbone__graft=None),
    dict(backbone__down=6),
    dict(backbone__down=8),
    dict(backbone__deep__depth=50),
    dict(backbone__shallow__stdc_type='STDCNet2'),
    dict(
        backbone__shallow__in_channels=6,
        backbone__shallow__input_layer=dict(type='mmseg_uhr.LaplacianInput'),
    ),
    dict(
        backbone__shallow__in_channels=6,
        backbone__shallow__input_layer=dict(
            type='mmseg_uhr.LaplacianInput', num_levels=1, keep_image=True
        ),
    ),
]


@pytest.mark.parametrize(
    'changes',
    VARIANTS,
    ids=lambda changes: '-'.join(
        str(v) if not isinstance(v, dict) else 'input'
        for v in changes.values()
    ),
)
def test_variants_train_every_parameter_and_take_any_size(changes):
    model = build(tiny(**changes))
    # Behind a zero convolution nothing learns in the very first step.
    for module in model.modules():
        if isinstance(module, GSAG):
            nn.init.normal_(module.out.weight)
        elif isinstance(module, FlowAlign):
            nn.init.normal_(module.offset.weight)
    model.train()
    losses = model.loss(*batch((203, 331)))
    assert {'decode.loss_ce', 'aux_0.loss_ce', 'aux_1.loss_ce'} <= set(losses)
    assert losses['aux_1.loss_sdc'] > 0
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    model.eval()
    image, (sample,) = batch((101, 67), n=1)
    with torch.no_grad():
        logits = model.encode_decode(image, [sample.metainfo])
    assert logits.shape == (1, 3, 101, 67)


@pytest.mark.parametrize(
    'changes', VARIANTS[::4] + VARIANTS[-1:], ids=range(6)
)
def test_half_precision(changes):
    model = build(tiny(**changes)).train()
    image, samples = batch((128, 160))
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(image, samples)
    total(losses).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    model.eval().bfloat16()
    metas = [sample.metainfo for sample in samples]
    with torch.no_grad():
        logits = model.encode_decode(image.bfloat16(), metas)
    assert logits.dtype == torch.bfloat16


def test_lighter_head():
    config = tiny()
    config.decode_head.align_channels = (4, 8)
    build(config).loss(*batch((96, 96)))
    config.decode_head.align_channels = (8,)
    with pytest.raises(ValueError, match='each of the 2 shallow maps'):
        MODELS.build(config)


def test_finer_head():
    """A third shallow map, at 1/4, gives logits at 1/4."""
    config = tiny()
    config.backbone.shallow.out_indices = (1, 2, 3)
    config.decode_head.update(
        in_channels=(8, 16, 24, 8),
        in_index=(0, 1, 2, 3),
        align_channels=(4, 8, 8),
    )
    for head in config.auxiliary_head:
        head.in_index += 1
    config.auxiliary_head[1].deep_index = 3
    model = build(config)
    model.loss(*batch((96, 96)))
    features = model.extract_feat(torch.randn(2, 3, 96, 128))
    assert model.decode_head(features).shape == (2, 3, 24, 32)


def test_labels_without_a_class_train():
    model = build(tiny()).train()
    image, samples = batch((128, 128))
    for sample in samples:
        sample.gt_sem_seg.data.fill_(255)
    loss = total(model.loss(image, samples))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None for p in model.parameters())


def test_overfits_one_batch():
    model = build(tiny()).train()
    model.init_weights()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    image, samples = batch((128, 192))
    history = []
    for _ in range(25):
        losses = model.loss(image, samples)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        history.append({k: float(v.detach()) for k, v in losses.items()})
    assert history[-1]['decode.loss_ce'] < 0.5 * history[0]['decode.loss_ce']
    assert history[-1]['aux_1.loss_sdc'] < 0.5 * history[0]['aux_1.loss_sdc']
    assert all(g.out.weight.any() for g in model.backbone.grafts)


def test_whole_model_starts_without_grafts():
    """After init_weights the GSAGs change nothing, and flow is bilinear."""
    model = build(tiny())
    model.init_weights()
    model.eval()
    image, (sample,) = batch((96, 128), n=1)
    plain = copy.deepcopy(model)
    plain.backbone.grafts = plain.backbone.graft_stages = None
    for module in model.modules():
        if isinstance(module, FlowAlign):
            assert not module.offset.weight.any()
    with torch.no_grad():
        for ours, other in zip(model.backbone(image), plain.backbone(image)):
            assert torch.equal(ours, other)


def test_neck_needs_its_maps():
    with pytest.raises(ValueError, match='expects 3 deep maps'):
        HGNNeck()([torch.randn(1, 128, 4, 4)] * 2)


def test_parameters_are_those_of_the_sheet():
    model = MODELS.build(full())

    def millions(*modules):
        return sum(p.numel() for m in modules for p in m.parameters()) / 1e6

    encoder, neck, head = model.backbone, model.neck, model.decode_head
    found = [
        millions(encoder.shallow),
        millions(encoder.deep),
        millions(encoder.grafts),
        millions(neck.ppm, neck.bottleneck),
        millions(neck.laterals, neck.fuse),
        millions(head.grafts[0]),
        millions(head.grafts[1]),
        millions(head.classifier, head.conv_seg),
        millions(model.auxiliary_head),
        millions(model),
    ]
    expected = [
        *(1.278, 11.196, 0.557, 0.803, 0.197),
        *(0.305, 0.273, 0.074, 0.452, 15.136),
    ]
    assert found == pytest.approx(expected, abs=6e-4)
    assert isinstance(encoder.shallow, ShallowSTDC)
    assert all(isinstance(graft, LSAG) for graft in head.grafts)


@pytest.mark.parametrize(
    'changes, gmacs',
    [
        ({}, 123.0),
        (dict(decode_head__graft__align='window'), 118.8),
        (
            dict(backbone__graft=None, decode_head__graft__align='bilinear'),
            111.9,
        ),
    ],
)
def test_cost_at_2448(changes, gmacs, monkeypatch):
    model = MODELS.build(full(**changes))
    striped = model_cost(model, (2448, 2448))
    monkeypatch.setattr(shallow_stdc, 'stripes_wanted', lambda module: False)
    whole = model_cost(model, (2448, 2448))
    assert whole.gmacs == pytest.approx(gmacs, rel=2e-3)
    assert whole.peak_mib <= 527
    # Rows between stripes are computed twice.
    assert gmacs < striped.gmacs <= 1.02 * gmacs
    assert striped.peak_mib <= 450


HGN_CONFIGS = sorted(
    path.relative_to(CONFIGS)
    for folder in ('hgn', 'baselines')
    for path in (CONFIGS / folder).glob('*.py')
)


@pytest.mark.parametrize('path', HGN_CONFIGS, ids=str)
def test_configs_build_and_predict(path):
    config = Config.fromfile(CONFIGS / path)
    model = MODELS.build(config.model)
    size = (512, 512)
    assert model_cost(model, size).gmacs > 0
    classes = {
        head.num_classes
        for head in model.modules()
        if isinstance(head, BaseDecodeHead) and not isinstance(head, STDCHead)
    }
    assert len(classes) == 1
    # Nothing is fetched when a run starts.
    text = str(config.model)
    assert 'open-mmlab' not in text
    assert 'http' not in text
