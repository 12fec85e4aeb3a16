"""Plans against what PyTorch allocates on a CPU, as its profiler sees it."""

import copy
import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.profiler import ProfilerActivity, profile

import mmseg_uhr  # noqa: F401
from mmseg_uhr.apis import init_segmentor
from mmseg_uhr.memory import plan_memory
from mmseg_uhr.planning import Planner
from mmseg_uhr.tiling import Window, parse_views

CONFIGS = Path(__file__).parents[2] / 'configs'
NAMES = dict(
    HGN='hgn/hgn_r18-w16_5min_bluemarble-192x192.py',
    ISDNet='isdnet/isdnet_r18-w16_5min_bluemarble-192x192.py',
    SGHRQ='sghrq/sghrq_r18-w16_5min_bluemarble-192x192.py',
    HLRC='hlrc/hlrc_w16_5min_bluemarble-192x192.py',
    FCtL='fctl/fctl-fpn_r18-w16_5min_bluemarble-192x192.py',
    DeepLabV3Plus='baselines/deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192.py',
    Quarter='baselines/deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192_quarter.py',
)
SEGFORMER = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='MixVisionTransformer',
        embed_dims=32,
        num_layers=[2, 2, 2, 2],
        num_heads=[1, 2, 5, 8],
        drop_path_rate=0.1,
    ),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[32, 64, 160, 256],
        in_index=[0, 1, 2, 3],
        channels=256,
        num_classes=19,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    test_cfg=dict(mode='whole'),
)
OPTIMIZERS = dict(
    AdamW=dict(type='AdamW', lr=1e-4),
    SGD=dict(type='SGD', lr=1e-4, momentum=0.9),
)
BATCH = 2
MIB = 2**20


def build(name):
    """A model with random weights."""
    init_default_scope('mmseg')
    if name == 'SegFormer':
        return MODELS.build(copy.deepcopy(SEGFORMER))
    cfg = Config.fromfile(CONFIGS / NAMES[name])
    return revert_sync_batchnorm(MODELS.build(cfg.model))


def batch_of(model, size):
    """Random views of windows, and labelled samples."""
    window = Window(0, 0, *size)
    views, boxes = {}, {}
    for name, view in (
        parse_views(None).items()
        | (getattr(model, 'views', None) or {}).items()
    ):
        region = view.region_of(window, size)
        seen = size if name == 'local' else view.size_of(region)
        views[name] = torch.randn(BATCH, 3, *seen)
        boxes[name] = window.box_in(region)
    meta = dict(
        img_shape=size, ori_shape=size, pad_shape=size, view_boxes=boxes
    )
    labels = torch.randint(0, model.num_classes, (BATCH, 1, *size))
    samples = [
        SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=label.clone()))
        for label in labels
    ]
    return views if len(views) > 1 else views['local'], samples


def peak_allocated(run):
    """Highest sum of all bytes that the CPU's allocator gave to ``run``."""
    gc.collect()
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        run()
    events = sorted(
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == '[memory]'
    )
    now = peak = 0
    for _, size in events:
        now += size
        peak = max(peak, now)
    return peak


def held(*tensors):
    return sum(tensor.nbytes for tensor in tensors)


def measure_prediction(model, size):
    model.eval()

    def run():
        inputs, samples = batch_of(model, size)
        metas = [sample.metainfo for sample in samples]
        del samples
        with torch.no_grad():
            model.encode_decode(inputs, metas)

    return peak_allocated(run) + held(*model.parameters(), *model.buffers())


def measure_training(model, size, optimizer):
    """Of the second step: the first one makes the optimizer's state."""
    model = copy.deepcopy(model).train()
    kind = getattr(torch.optim, optimizer.pop('type'))
    optimizer = kind(model.parameters(), **optimizer)

    def step():
        inputs, samples = batch_of(model, size)
        loss, _ = model.parse_losses(model.loss(inputs, samples))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    state = [
        value
        for values in optimizer.state.values()
        for value in values.values()
        if isinstance(value, torch.Tensor)
    ]
    return peak_allocated(step) + held(
        *model.parameters(), *model.buffers(), *state
    )


def compare(model, size, mode, optimizer='AdamW'):
    """Bytes planned, and bytes measured."""
    cfg = OPTIMIZERS[optimizer] if mode == 'train' else None
    plan = plan_memory(model, size, BATCH, mode, optimizer=cfg)
    assert not plan.estimated, plan.reason
    if mode == 'train':
        return plan.total, measure_training(model, size, dict(cfg))
    return plan.total, measure_prediction(model, size)


@pytest.mark.parametrize(
    'name, size, mode, optimizer',
    [
        ('HGN', (192, 160), 'predict', 'AdamW'),
        ('FCtL', (128, 192), 'predict', 'AdamW'),
        ('FCtL', (128, 128), 'train', 'SGD'),
        ('DeepLabV3Plus', (160, 160), 'train', 'AdamW'),
        ('SegFormer', (128, 128), 'predict', 'AdamW'),
    ],
)
def test_plans_hold(name, size, mode, optimizer):
    planned, measured = compare(build(name), size, mode, optimizer)
    assert 0.9 * planned <= measured <= planned


@pytest.mark.parametrize(
    'name, scene, test_cfg',
    [
        # Sees a quarter of the resolution: enlarging logits is the peak.
        ('Quarter', (900, 700), {}),
        ('Quarter', (300, 700), dict(accumulator='float16')),
        (
            'DeepLabV3Plus',
            (200, 500),
            dict(tta='flip', tta_scales=(1.0, 1.5), blend='gaussian'),
        ),
        # A context is turned and scaled, too.
        ('FCtL', (256, 300), dict(tta='flip', tta_scales=(1.0, 1.5))),
        # Logits are more than all that the network needs.
        ('DeepLabV3Plus', (300, 256), dict(num_classes=40, tta='d4')),
        (
            'DeepLabV3Plus',
            (300, 256),
            dict(num_classes=40, tta_scales=(1.0, 2.0)),
        ),
        # Wide, so deciding on classes counts.
        ('DeepLabV3Plus', (256, 6000), dict(crop_size=(64, 64))),
    ],
)
def test_plans_of_streams_hold(name, scene, test_cfg, tmp_path):
    cfg = Config.fromfile(CONFIGS / NAMES[name])
    test_cfg = dict(test_cfg)
    if 'num_classes' in test_cfg:
        cfg.model.decode_head.num_classes = test_cfg.pop('num_classes')
    size = test_cfg.get('crop_size', (256, 256))
    cfg.model.test_cfg = dict(
        dict(mode='stream', crop_size=size, stride=size), **test_cfg
    )
    planned = Planner(cfg, image_size=scene).as_configured().device_bytes
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'w.pth')
    model = init_segmentor(cfg, tmp_path / 'w.pth', 'cpu')
    image = np.zeros((*scene, 3), np.uint8)

    def run():
        for _ in model.stream(image):
            pass

    run()
    measured = peak_allocated(run) + held(
        *model.parameters(), *model.buffers()
    )
    assert 0.9 * planned <= measured <= planned


@pytest.mark.slow
@pytest.mark.parametrize('name', [*NAMES, 'SegFormer'])
def test_plans_hold_for_all(name):
    model = build(name)
    rows = []
    for mode in ('predict', 'train'):
        for size in ((128, 128), (192, 256), (320, 320)):
            planned, measured = compare(model, size, mode)
            rows.append((mode, size, planned, measured))
            print(
                f'| {name} | {mode} | {size[0]} x {size[1]} | '
                f'{planned / MIB:.1f} | {measured / MIB:.1f} | '
                f'{measured / planned:.3f} |'
            )
    for row in rows:
        assert 0.9 * row[2] <= row[3] <= row[2], row
