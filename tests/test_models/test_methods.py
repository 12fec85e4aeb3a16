"""What holds for every dual-resolution method, by its configs."""

import json
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

import mmseg_uhr  # noqa: F401
from mmseg_uhr.memory import model_cost

CONFIGS = Path(__file__).parents[2] / 'configs'
METHODS = ('hgn', 'isdnet', 'sghrq', 'hlrc')
CROP = (64, 64)


def small_config(method):
    """The method's config for CPUs."""
    (path,) = (CONFIGS / method).glob('*w16_5min_bluemarble-192x192.py')
    return Config.fromfile(path)


@pytest.fixture(scope='module', params=METHODS)
def method(request):
    register_all_modules()
    return request.param


@pytest.fixture
def model(method):
    model = MODELS.build(small_config(method).model)
    model.init_weights()
    return revert_sync_batchnorm(model)


def batch(n=2, size=CROP, label=None):
    labels = torch.randint(0, 10, (n, 1, *size), dtype=torch.uint8)
    if label is not None:
        labels.fill_(label)
    return torch.randn(n, 3, *size), [
        SegDataSample(
            gt_sem_seg=PixelData(data=one),
            metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size),
        )
        for one in labels
    ]


def total(losses):
    return sum(value for key, value in losses.items() if 'loss' in key)


@pytest.mark.parametrize('label', [None, 3, 255], ids=['all', 'one', 'none'])
def test_every_parameter_gets_a_gradient(model, label):
    """Whatever the labels: DDP waits for every gradient in every step."""
    model.train()
    losses = model.loss(*batch(label=label))
    assert all(torch.isfinite(value).all() for value in losses.values())
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_one_image_cannot_train(model, method):
    """Batch norm of a pooled map; HGN has none there."""
    model.train()
    if method == 'hgn':
        total(model.loss(*batch(1, (192, 192)))).backward()
        return
    with pytest.raises(ValueError, match='batch_size to 2'):
        model.loss(*batch(1))


@pytest.mark.parametrize('size', [(64, 64), (65, 99), (81, 50), (130, 43)])
def test_predicts_windows_of_any_size(model, size):
    model.eval()
    image, samples = batch(1, size)
    with torch.no_grad():
        logits = model.encode_decode(image, [samples[0].metainfo])
        twice = model.encode_decode(
            image.repeat(2, 1, 1, 1), [samples[0].metainfo] * 2
        )
    assert logits.shape == (1, 10, *size)
    assert logits.isfinite().all()
    torch.testing.assert_close(twice[:1], logits, rtol=1e-3, atol=1e-4)


def test_striped_prediction_equals_the_whole(model):
    """High enough for several stripes; with gradients nothing is striped."""
    model.eval()
    image, samples = batch(1, (1168, 64))
    metas = [samples[0].metainfo]
    whole = model.encode_decode(image, metas)
    with torch.no_grad():
        striped = model.encode_decode(image, metas)
    torch.testing.assert_close(striped, whole, rtol=1e-3, atol=1e-4)


def test_half_precision(model):
    model.train()
    image, samples = batch(size=(128, 128))
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(image, samples)
    total(losses).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_configs_build_and_tell_their_cost(method):
    for path in sorted((CONFIGS / method).glob('*.py')):
        config = Config.fromfile(path)
        model = MODELS.build(config.model)
        size = config.model.data_preprocessor.size
        assert path.stem.endswith(f'{size[0]}x{size[1]}') or (
            path.stem.rsplit('_', 1)[0].endswith(f'{size[0]}x{size[1]}')
        )
        heads = [model.decode_head, *model.auxiliary_head]
        classes = {head.num_classes for head in heads}
        assert len(classes) == 1
        cost = model_cost(model, (512, 768))
        assert min(cost.gmacs, cost.peak_mib) > 0


@pytest.fixture
def trainable(method, tiny_cfg, tmp_path):
    """Path: config of a few iterations on the tests' own scenes."""
    config = small_config(method)
    for key in (
        *('train_dataloader', 'val_dataloader', 'test_dataloader'),
        *('val_evaluator', 'test_evaluator', 'param_scheduler'),
    ):
        config[key] = tiny_cfg[key]
    for transform in config.train_dataloader.dataset.pipeline:
        if transform.type == 'mmseg_uhr.RandomWindow':
            transform.crop_size = CROP
    config.model.data_preprocessor.size = CROP
    for head in (config.model.decode_head, *config.model.auxiliary_head):
        head.num_classes = 3
        head.pop('exclude_classes', None)
    config.model.test_cfg = dict(
        mode='stream', crop_size=CROP, stride=(48, 48), batch_size=2
    )
    config.custom_hooks = []
    config.train_cfg.update(max_iters=4, val_interval=4)
    config.default_hooks.logger.interval = 1
    config.randomness = dict(seed=0)
    path = tmp_path / f'{method}.py'
    config.dump(path)
    return path


def check_run(work_dir):
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == 4
    assert all(loss == loss and loss < 100 for loss in losses)
    assert 0 <= lines[-1]['mIoU'] <= 100


def test_trains_and_tests_with_the_tools(trainable, tmp_path, run_tool):
    work_dir = tmp_path / 'train'
    run_tool('train.py', trainable, '--work-dir', work_dir)
    check_run(work_dir)
    run_tool(
        *('test.py', trainable, work_dir / 'iter_4.pth'),
        *('--work-dir', tmp_path / 'test'),
    )
    (scores,) = (tmp_path / 'test').glob('*/*.json')
    assert 0 <= json.loads(scores.read_text())['mIoU'] <= 100


def test_two_processes_train(trainable, tmp_path, run_script):
    work_dir = tmp_path / 'two'
    run_script(
        *('dist_train.sh', trainable, 2, '--work-dir', work_dir),
        cwd=tmp_path,
    )
    check_run(work_dir)
