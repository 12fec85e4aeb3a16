"""Every method on every data set: names tell what configs hold, and they run.

Models are built without values and never called; pipelines run on tiny scenes
in the layout that the converters write.
"""

import copy
import functools
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.registry import init_default_scope
from mmseg.models.decode_heads import STDCHead
from mmseg.registry import DATASETS, METRICS, MODELS
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

import mmseg_uhr  # noqa: F401
from mmseg_uhr.datasets import DeepGlobeDataset, InriaDataset
from mmseg_uhr.memory import WithoutValues
from mmseg_uhr.rasters import Raster, write_geotiff
from mmseg_uhr.tiling import Window, parse_views

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    path.stem: path
    for path in sorted((ROOT / 'configs').glob('*/*.py'))
    if path.parent.name != '_base_'
}
# method_backbone_schedule_dataset-crop[_variant]; STDC is its own backbone.
NAME = re.compile(
    r'(?P<method>[a-z0-9]+(-[a-z]+)*)(-w16)?'
    r'(_(?P<backbone>[a-z0-9-]+))?'
    r'_(?P<schedule>\d+k|5min)'
    r'_(?P<data>[a-z]+)-(?P<height>\d+)x(?P<width>\d+)'
    r'(_(?P<variant>[a-z0-9-]+))?'
)
# Method -> folder, a type that only it has.
METHODS = {
    'hgn': ('hgn', 'mmseg_uhr.HGNHead'),
    'isdnet': ('isdnet', 'mmseg_uhr.ISDNeck'),
    'sghrq': ('sghrq', 'mmseg_uhr.SGHRQHead'),
    'hlrc': ('hlrc', 'mmseg_uhr.HLRCHead'),
    'fctl-fpn': ('fctl', 'mmseg_uhr.ContextNeck'),
    'fctl': ('fctl', 'mmseg_uhr.FCN8sHead'),
    'lcf-ale-fpn': ('lcf_ale', 'mmseg_uhr.LocalEnhancement'),
    'lcf-ale': ('lcf_ale', 'mmseg_uhr.LocalEnhancement'),
    'deeplabv3plus': ('baselines', 'DepthwiseSeparableASPPHead'),
    'stdc1': ('baselines', 'STDCContextPathNet'),
    'segformer': ('baselines', 'SegformerHead'),
}
# First word of the backbone -> what it is in the config. 'w16' stands alone
# for HLRC's narrow networks.
BACKBONES = {
    'r18': dict(type='ResNetV1c', depth=18),
    'r50': dict(type='ResNetV1c', depth=50),
    'efficientnet': dict(type='mmseg_uhr.EfficientNetLite0'),
    'vgg16': dict(type='mmseg_uhr.VGGFCN'),
    'swin': dict(type='SwinTransformer', embed_dims=96),
    'mit': dict(type='MixVisionTransformer', embed_dims=32),
    'w16': dict(type='SwinTransformer', embed_dims=32),
    None: dict(type='STDCNet', stdc_type='STDCNet1'),
}
# Data set -> type, classes.
DATA = {
    'deepglobe': ('mmseg_uhr.DeepGlobeDataset', 7),
    'inria': ('mmseg_uhr.InriaDataset', 2),
    'cityscapes': ('mmseg_uhr.CityscapesUHRDataset', 19),
    'urur': ('mmseg_uhr.URURDataset', 8),
    'bluemarble': ('mmseg_uhr.BlueMarbleDataset', 10),
}
# What the methods' authors, or stock, train; all else has a schedule of ours.
GIVEN_SCHEDULES = {
    ('isdnet', 'deepglobe'),
    ('isdnet', 'inria'),
    ('sghrq', 'deepglobe'),
    ('sghrq', 'inria'),
    ('hlrc', 'deepglobe'),
    ('hlrc', 'inria'),
    ('hlrc', 'cityscapes'),
    ('segformer', 'cityscapes'),
}
# Networks whose authors do not synchronise all batch norms, or have none;
# stock's STDC fixes those of its refinements.
OWN_NORMS = ('sghrq', 'hlrc', 'fctl', 'lcf-ale', 'stdc1')
SHAPE = (48, 64)
CITY = 'aachen/aachen_000000_000019'

every_config = pytest.mark.parametrize('name', CONFIGS)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmseg')


def fields(name):
    """What the name of a config tells."""
    match = NAME.fullmatch(name)
    assert match, f'{name}: not method_backbone_schedule_dataset-crop'
    return match.groupdict()


@functools.cache
def read(name):
    return Config.fromfile(CONFIGS[name])


def load(name, data_root=None):
    cfg = copy.deepcopy(read(name))
    if data_root is not None:
        for kind in ('train', 'val', 'test'):
            dataset = cfg[f'{kind}_dataloader'].dataset
            dataset.data_root = str(data_root / fields(name)['data'])
            # Packing the list for workers takes longer than all the rest.
            dataset.serialize_data = False
    return cfg


def dicts(node):
    """Walk through all dicts of a config."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from dicts(child)


def seen_size(cfg, window):
    """Size at which the network sees windows of a size, in training."""
    (read,) = (
        step
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'mmseg_uhr.ReadViews'
    )
    local = parse_views(read.get('views'))['local']
    return tuple(local.size_of(Window(0, 0, *window)))


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    """Path: all data sets as the converters leave them, but tiny.

    Every scene of a data set is the same file, as in the official splits:
    DeepGlobe's configs need all 803.
    """
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)

    def write(data, pairs, suffixes=('.tif', '.tif')):
        labels = rng.integers(0, DATA[data][1], SHAPE, dtype=np.uint8)
        labels[:4] = 255
        for column, pixels in enumerate((image, labels)):
            first = None
            for pair in pairs:
                path = root / data / (pair[column] + suffixes[column])
                path.parent.mkdir(parents=True, exist_ok=True)
                if first is not None:
                    os.link(first, path)
                elif path.suffix == '.png':
                    assert cv2.imwrite(str(path), pixels)
                else:
                    write_geotiff(path, pixels)
                first = first or path

    def in_split_folders(name):
        return [
            (f'img_dir/{split}/{name}', f'ann_dir/{split}/{name}')
            for split in ('train', 'val', 'test')
        ]

    for data, kind in (
        ('deepglobe', DeepGlobeDataset),
        ('inria', InriaDataset),
    ):
        names = [
            name
            for split in kind.SPLIT_LISTS
            for name in kind.split_names(split)
        ]
        write(data, [(f'img_dir/{n}', f'ann_dir/{n}') for n in names])
    write('urur', in_split_folders('1'))
    write('bluemarble', in_split_folders('bmng_A'))
    write(
        'cityscapes',
        [
            (f'leftImg8bit/{split}/{CITY}', f'gtFine/{split}/{CITY}')
            for split in ('train', 'val')
        ],
        ('_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
    )
    return root


def test_every_method_has_every_data_set():
    found = {}
    for name in CONFIGS:
        told = fields(name)
        found.setdefault(told['method'], set()).add(told['data'])
    # VGG-16 is there for the authors' weights, on their data.
    old = {method: found.pop(method) for method in ('fctl', 'lcf-ale')}
    assert found == {
        method: set(DATA) for method in METHODS if method not in old
    }
    assert all(data == {'deepglobe', 'inria'} for data in old.values())


@every_config
def test_name_tells_what_the_config_is(name):
    told = fields(name)
    cfg = load(name)

    folder, marker = METHODS[told['method']]
    assert CONFIGS[name].parent.name == folder
    assert any(part.get('type') == marker for part in dicts(cfg.model))

    word = told['backbone'] and told['backbone'].split('-')[0]
    assert any(
        all(part.get(key) == value for key, value in BACKBONES[word].items())
        for part in dicts(cfg.model.backbone)
    )

    if told['schedule'] == '5min':
        (hook,) = cfg.custom_hooks
        assert hook == dict(type='mmseg_uhr.TimeBudgetHook', minutes=5)
    else:
        iterations = cfg.train_cfg.max_iters
        assert f'{round(iterations / 1000)}k' == told['schedule']
        # The rate reaches its end with the training, or an iteration later.
        assert cfg.param_scheduler[-1].end - iterations in (0, 1)
        assert iterations % cfg.train_cfg.val_interval == 0

    kind, num_classes = DATA[told['data']]
    for loader in ('train', 'val', 'test'):
        assert cfg[f'{loader}_dataloader'].dataset.type == kind
    assert len(DATASETS.get(kind).METAINFO['classes']) == num_classes

    crop = int(told['height']), int(told['width'])
    assert tuple(cfg.model.data_preprocessor.size) == crop
    (window,) = (
        step.crop_size
        for step in cfg.train_dataloader.dataset.pipeline
        if 'crop_size' in step
    )
    assert seen_size(cfg, window) == crop


@every_config
def test_comment_tells_whose_schedule_it_is(name):
    """In the config's first line, or in that of the one it inherits."""
    told = fields(name)
    if (told['method'], told['data']) in GIVEN_SCHEDULES:
        return
    if told['schedule'] == '5min' or told['backbone'] == 'r50':
        return
    if told['backbone'] and told['backbone'].startswith('vgg16'):
        return
    comment = CONFIGS[name].read_text().split('_base_')[0].lower()
    words = ('ours', "that of hgn's", 'authors', 'shortened')
    assert comment.startswith('#')
    assert any(word in comment for word in words), comment


@every_config
def test_builds_for_its_classes(name):
    told = fields(name)
    cfg = load(name)
    with WithoutValues():
        model = MODELS.build(cfg.model)

    heads = [model.decode_head]
    if model.with_auxiliary_head:
        more = model.auxiliary_head
        heads += more if isinstance(more, torch.nn.ModuleList) else [more]
    # STDC's detail head tells boundary from the rest, whatever the classes.
    heads = [head for head in heads if not isinstance(head, STDCHead)]
    num_classes = DATA[told['data']][1]
    assert {head.num_classes for head in heads} == {num_classes}

    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    synchronised = [isinstance(norm, SyncBatchNorm) for norm in norms]
    assert (norms and all(synchronised)) or told['method'] in OWN_NORMS

    test_cfg = cfg.model.test_cfg
    if test_cfg.mode == 'whole':
        # As large as the images are.
        assert test_cfg.stripe_rows > 0
        return
    assert test_cfg.mode == 'stream'
    for side, step in zip(test_cfg.crop_size, test_cfg.stride, strict=True):
        assert step <= side


@every_config
def test_fetches_no_weights(name):
    """Except FCtL's first phases, whose authors start from ImageNet."""
    sources = {
        part['checkpoint']
        for part in dicts(load(name).model)
        if part.get('type') == 'Pretrained'
    }
    first = 'fctl_vgg16-phase1', 'fctl_vgg16-phase2-large_4k'
    if name.startswith(first):
        assert sources == {'torchvision://vgg16'}
    else:
        # What lies in a pip package is read, not fetched.
        local = 'work_dirs/', 'pip://'
        assert all(source.startswith(local) for source in sources)


@every_config
def test_pipelines_run(name, data_root):
    told = fields(name)
    cfg = load(name, data_root)
    num_classes = DATA[told['data']][1]
    views = set(parse_views(cfg.model.get('views')))

    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]
    inputs = sample['inputs']
    if not isinstance(inputs, dict):
        inputs = dict(local=inputs)
    assert set(inputs) == views
    assert all(view.shape[0] == 3 for view in inputs.values())
    labels = sample['data_samples'].gt_sem_seg.data
    assert labels.shape[1:] == inputs['local'].shape[1:]
    assert set(labels.unique().tolist()) <= {*range(num_classes), 255}
    # The window is the scene, as it is smaller than any crop; HLRC draws the
    # scale of whole frames of Cityscapes.
    pipeline = cfg.train_dataloader.dataset.pipeline
    if not any(step.type == 'RandomResize' for step in pipeline):
        seen = seen_size(cfg, SHAPE)
        assert inputs['local'].shape[1:] in (seen, seen[::-1])

    for loader in ('val', 'test'):
        dataset = DATASETS.build(cfg[f'{loader}_dataloader'].dataset)
        sample = dataset[0]
        assert isinstance(sample['inputs'], Raster)
        assert sample['inputs'].shape == SHAPE
        labels = sample['data_samples'].gt_sem_seg.data
        assert labels.shape == (1, *SHAPE)


@pytest.mark.parametrize(
    'name',
    [
        name
        for name in CONFIGS
        if '_cityscapes-' in name and 'hlrc' not in name
    ],
)
def test_streets_are_mirrored_but_never_upside_down(name, data_root):
    """The upper rows of the fixture are void; HLRC crops them away."""
    dataset = DATASETS.build(load(name, data_root).train_dataloader.dataset)
    labels = [dataset[0]['data_samples'].gt_sem_seg.data for _ in range(16)]
    assert all((one[:, :4] == 255).all() for one in labels)
    assert len({one.numpy().tobytes() for one in labels}) == 2


def evaluators(cfg):
    found = []
    for key in ('val_evaluator', 'test_evaluator'):
        one = cfg[key]
        found += one if isinstance(one, (list, tuple)) else [one]
    return found


@pytest.mark.parametrize('data', DATA)
def test_evaluators_score_the_classes_of_the_data_set(data, data_root):
    told = {name: fields(name) for name in CONFIGS}
    names = [name for name in CONFIGS if told[name]['data'] == data]
    different = []
    for name in names:
        for spec in evaluators(load(name)):
            if spec not in different:
                different.append(spec)
    dataset = DATASETS.build(load(names[0], data_root).test_dataloader.dataset)
    labels = dataset[0]['data_samples'].gt_sem_seg.data.clone()
    last = torch.full_like(labels, DATA[data][1] - 1)

    def score(spec, pred):
        metric = METRICS.build(spec)
        metric.dataset_meta = dataset.metainfo
        label = dict(gt_sem_seg=dict(data=labels))
        metric.process(None, [dict(pred_sem_seg=dict(data=pred), **label)])
        return metric.evaluate(1), metric

    for spec in different:
        if spec.type != 'mmseg_uhr.UHRIoUMetric':
            score(spec, last)
            continue
        perfect, _ = score(spec, torch.where(labels == 255, 0, labels))
        assert perfect['mIoU'] == 100
        constant, metric = score(spec, last)
        classes = range(DATA[data][1])
        if metric.protocol is not None:
            classes = metric.protocol.mean_ids(dataset.metainfo['classes'])
        counts = ~torch.isin(labels, torch.tensor(metric.ignored))
        right = int((counts & (labels == last)).sum())
        expected = right / int(counts.sum()) / len(classes)
        assert constant['mIoU'] == pytest.approx(100 * expected, abs=0.01)
