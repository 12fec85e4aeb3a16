"""Whole images in stripes of rows: the same results in less memory."""

import copy
import random
from pathlib import Path

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine import Config
from mmengine.model import revert_sync_batchnorm
from mmseg.models.backbones.stdc import STDCModule
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch import nn

from mmseg_uhr.memory import LiveBytes
from mmseg_uhr.memory.fakes import faked
from mmseg_uhr.models.backbones import DualResolutionEncoder
from mmseg_uhr.models.layers import LSAG, LaplacianInput, RelationAwareFusion
from mmseg_uhr.models.layers.enlarging import enlargement_of
from mmseg_uhr.models.layers.striped_fusion import stripe_fusions
from mmseg_uhr.models.layers.striping import (
    Collected,
    RowsOf,
    find_reach,
    laplacian_rows,
)
from mmseg_uhr.models.segmentors.whole_image import stripe_prediction
from mmseg_uhr.rasters import open_raster, write_geotiff

CONFIGS = Path(__file__).parents[2] / 'configs'
METHODS = ('hgn', 'isdnet', 'sghrq')
NORM = dict(type='BN')


def small_config(method):
    """The method's model for CPUs, predicting whole images."""
    (path,) = (CONFIGS / method).glob('*w16_5min_bluemarble-192x192.py')
    return Config.fromfile(path).model


class Unlike(nn.Module):
    """Pixels minus their mean."""

    def forward(self, x):
        return x - x.mean(dim=(2, 3), keepdim=True)


class Coded(nn.Module):
    """Adds what depends on the row alone."""

    def forward(self, x):
        return x + torch.arange(x.shape[2])[:, None]


def layers():
    """Local layers of many kinds."""
    return dict(
        plain=nn.Conv2d(3, 4, 3, padding=1),
        strided=nn.Conv2d(3, 4, 5, stride=2, padding=2),
        dilated=nn.Conv2d(3, 4, 3, padding=6, dilation=6),
        patches=nn.Conv2d(3, 4, 4, stride=4),
        unpadded=nn.Conv2d(3, 4, (5, 3), stride=(3, 1)),
        deep=nn.Sequential(
            *(ConvModule(3, 3, 3, 2, 1, norm_cfg=NORM) for _ in range(3)),
            nn.MaxPool2d(3, 2, 1),
            nn.AvgPool2d(3, 1, 1),
        ),
        cat=STDCModule(3, 16, 2, NORM, dict(type='ReLU'), fusion_type='cat'),
        add=STDCModule(3, 16, 2, NORM, dict(type='ReLU'), fusion_type='add'),
        flat=STDCModule(3, 16, 1, NORM, dict(type='ReLU'), fusion_type='cat'),
    )


def in_rows(function, reach, x, cuts):
    """Send an image in pieces; return the map."""
    rows = RowsOf(function, reach, x.shape[2])
    collected = Collected(rows.total)
    for top, bottom in zip([0, *cuts], [*cuts, x.shape[2]], strict=True):
        made = rows.push(x[:, :, top:bottom])
        if made is not None:
            collected.push(made)
    return collected.map


def some_cuts(height):
    """Rows at which an image is cut: none, evenly, anyhow."""
    anyhow = random.sample(range(1, height), random.randint(0, height // 3))
    return [], list(range(7, height, 7)), sorted(anyhow)


@pytest.mark.parametrize('name', layers())
def test_rows_of_local_layers_are_those_of_the_whole(name):
    layer = layers()[name].double().eval()
    for part in layer.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean)
    reach, channels = find_reach(layer, 3, name)
    for height in (37, 50, 64, 81):
        x = torch.randn(2, 3, height, 19, dtype=torch.float64)
        with torch.no_grad():
            whole = layer(x)
            assert reach.rows(height) == whole.shape[2]
            assert channels == whole.shape[1]
            for cuts in some_cuts(height):
                found = in_rows(lambda x, _: layer(x), reach, x, cuts)
                torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', ['plain', 'strided', 'dilated', 'cat'])
def test_reach_is_the_least(name):
    """Gradients tell what a row depends on."""
    layer = layers()[name].eval()
    reach, _ = find_reach(layer, 3, name)
    x = torch.randn(1, 3, 64, 9, requires_grad=True)
    row = 32 // reach.stride
    for _ in range(20):
        layer(torch.randn_like(x) + x)[:, :, row].sum().backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    center = row * reach.stride
    assert rows.min() == center - reach.above
    assert rows.max() == center + reach.below


@pytest.mark.parametrize('height', [64, 61, 62, 63, 65, 101])
@pytest.mark.parametrize('levels', [1, 2, 3])
def test_laplacian_rows(height, levels):
    layer = LaplacianInput(levels, keep_image=levels < 3).double()
    x = torch.randn(1, 3, height, 37, dtype=torch.float64)
    whole = layer(x)
    reach, channels = find_reach(layer, 3, 'input')
    assert channels == whole.shape[1]
    for cuts in some_cuts(height):
        found = in_rows(
            lambda x, first: laplacian_rows(layer, x, first, height),
            reach,
            x,
            cuts,
        )
        # Positions are rounded to float32 nowhere.
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    'module, problem',
    [
        (Unlike(), 'net cannot run in stripes of rows, since mean'),
        (
            nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1)),
            r'net\.1 cannot run',
        ),
        (nn.Upsample(scale_factor=2), 'upsample_nearest2d is not local'),
        (nn.ConvTranspose2d(3, 3, 2, 2), 'convolution is not local'),
        (nn.GroupNorm(1, 3), 'native_group_norm is not local'),
        (nn.Softmax(dim=2), '_softmax is not local'),
        (Coded(), 'add is not local'),
    ],
)
def test_what_is_not_local_is_named(module, problem):
    with pytest.raises(ValueError, match=problem):
        find_reach(module.eval(), 3, 'net')


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('size', [(40, 30), (81, 61), (17, 16), (7, 50)])
def test_enlarged_rows(align_corners, size):
    maps = torch.randn(2, 3, 17, 13, dtype=torch.float64)
    whole = nn.functional.interpolate(
        maps, size=size, mode='bilinear', align_corners=align_corners
    )
    enlargement = enlargement_of(maps, size, align_corners)
    for start in range(0, size[0], 5):
        stop = min(start + 5, size[0])
        found = enlargement.enlarge(maps, start, stop)
        torch.testing.assert_close(
            found, whole[:, :, start:stop], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize('align', ['flow', 'window', 'bilinear'])
@pytest.mark.parametrize('size', [(40, 22), (41, 23), (38, 21)])
@pytest.mark.parametrize('rows', [2, 6, 16, 64])
def test_striped_grafts(align, size, rows):
    module = LSAG(6, 5, 8, align=align).eval()
    if align == 'flow':
        nn.init.normal_(module.align.offset.weight, std=0.3)
    coarse, shallow = torch.randn(2, 6, 20, 11), torch.randn(2, 5, *size)
    with torch.no_grad():
        whole = module(coarse, shallow)
        stripe_fusions(module, rows)
        found = module(coarse, shallow)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize('size', [(40, 22), (41, 23)])
def test_striped_relation_aware_fusion(size):
    module = RelationAwareFusion(5, 8, groups=2).double().eval()
    nn.init.ones_(module.shallow_gain)
    shallow = torch.randn(1, 5, *size, dtype=torch.float64)
    deep = torch.randn(1, 8, 20, 11, dtype=torch.float64)
    with torch.no_grad():
        whole, _ = module(shallow, deep)
        stripe_fusions(module, 6)
        found, unmade = module(shallow, deep)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)
    with pytest.raises(TypeError, match='does not exist'):
        unmade.take(module)


@pytest.fixture(scope='module', params=METHODS)
def model(request):
    """A tiny model, its statistics and grafts not as they start."""
    register_all_modules()
    config = small_config(request.param)
    config.test_cfg = dict(mode='whole')
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(config)).eval()
    for name, part in model.named_modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
        if name.endswith(('.out', 'align.offset')):
            nn.init.normal_(part.weight, std=0.05)
    return model


def striped_copy(model, rows):
    """The model, predicting in stripes."""
    model = copy.deepcopy(model)
    stripe_prediction(model, rows)
    return model


def metas(size):
    return [dict(img_shape=size, ori_shape=size, pad_shape=size)]


@pytest.mark.parametrize('rows', [32, 100, 1024])
@pytest.mark.parametrize('size', [(192, 160), (203, 161), (258, 100)])
def test_logits(model, rows, size):
    striped = striped_copy(model, rows)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        whole = model.encode_decode(x, metas(size))
        found = striped.encode_decode(x, metas(size))
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-5)


def test_logits_of_batches_in_double_precision(model):
    model = copy.deepcopy(model).double()
    grafts = [m for m in model.modules() if isinstance(m, LSAG)]
    striped = striped_copy(model, 48)
    x = torch.randn(2, 3, 131, 99, dtype=torch.float64)
    with torch.no_grad():
        whole = model.encode_decode(x, metas((131, 99)) * 2)
        found = striped.encode_decode(x, metas((131, 99)) * 2)
    # Flows are float32 by design.
    atol = 1e-6 if grafts else 1e-10
    torch.testing.assert_close(found, whole, rtol=0, atol=atol)


def labels_of(model, image, **meta):
    """Label map of an image (3, H, W)."""
    size = tuple(image.shape[1:])
    sample = SegDataSample(metainfo=dict(metas(size)[0], **meta))
    with torch.no_grad():
        (found,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    return found


def assert_equal_but_ties(found, stock):
    """Where two classes are alike, rounding decides."""
    best = stock.seg_logits.data.topk(2, dim=0).values
    clear = best[0] - best[1] > 1e-4
    assert clear.float().mean() > 0.99
    same = found.pred_sem_seg.data[0] == stock.pred_sem_seg.data[0]
    assert same[clear].all()


@pytest.mark.parametrize(
    'meta',
    [
        {},
        dict(ori_shape=(100, 90)),
        dict(flip=True, flip_direction='vertical', ori_shape=(301, 222)),
        dict(flip=True, flip_direction='horizontal'),
        dict(padding_size=[3, 5, 2, 9], ori_shape=(136, 107)),
    ],
    ids=['plain', 'smaller', 'flipped', 'mirrored', 'padded'],
)
def test_label_maps(model, meta):
    striped = striped_copy(model, 40)
    image = torch.randint(0, 256, (3, 147, 115), dtype=torch.uint8)
    stock = labels_of(model, image, **meta)
    found = labels_of(striped, image, **meta)
    assert found.pred_sem_seg.data.dtype == torch.uint8
    assert 'seg_logits' not in found
    assert found.pred_sem_seg.shape == stock.pred_sem_seg.shape
    assert_equal_but_ties(found, stock)


def test_preprocessor_that_pads(model):
    model = copy.deepcopy(model)
    model.data_preprocessor.test_cfg = dict(size_divisor=64)
    striped = striped_copy(model, 40)
    image = torch.randint(0, 256, (3, 147, 115), dtype=torch.uint8)
    stock, found = (labels_of(one, image) for one in (model, striped))
    assert found.pred_sem_seg.shape == (147, 115)
    assert_equal_but_ties(found, stock)


def test_rasters_and_preprocessed_images(model, tmp_path):
    striped = striped_copy(model, 40)
    image = torch.randint(0, 256, (3, 147, 115), dtype=torch.uint8)
    write_geotiff(tmp_path / 'a.tif', image.permute(1, 2, 0).numpy())
    raster = open_raster(tmp_path / 'a.tif')
    expected = labels_of(striped, image).pred_sem_seg.data
    with torch.no_grad():
        (read,) = striped.val_step(dict(inputs=[raster]))
        inputs = model.data_preprocessor(dict(inputs=[image]))['inputs']
        (given,) = striped.predict(inputs)
    assert torch.equal(read.pred_sem_seg.data, expected)
    assert torch.equal(given.pred_sem_seg.data, expected)


def test_training_and_weights_stay(model):
    striped = striped_copy(model, 40)
    assert striped.state_dict().keys() == model.state_dict().keys()
    assert not striped.training
    x = torch.randn(2, 3, 96, 96)
    found = [
        one.train().backbone(x)[0].detach()
        for one in (copy.deepcopy(model), striped)
    ]
    assert torch.equal(*found)


def peak_of(model, image):
    """Most bytes alive while an image is predicted."""
    weights = [*model.parameters(), *model.buffers()]
    live = LiveBytes([*weights, image])
    with live, torch.no_grad():
        model.test_step(
            dict(
                inputs=[image],
                data_samples=[
                    SegDataSample(metainfo=metas(tuple(image.shape[1:]))[0])
                ],
            )
        )
    return live.peak


def test_half_of_the_memory(model):
    """On real and on fake tensors."""
    striped = striped_copy(model, 64)
    image = torch.zeros(3, 768, 512, dtype=torch.uint8)
    peaks = [peak_of(one, image) for one in (model, striped)]
    assert peaks[1] < 0.5 * peaks[0]
    with faked(striped) as double:
        planned = peak_of(double, torch.zeros(3, 768, 512, dtype=torch.uint8))
    assert planned == pytest.approx(peaks[1], rel=1e-2)


def test_what_is_not_made_for_stripes_is_refused(model):
    for rows in (0, -3, 2.5, True, '512'):
        with pytest.raises(ValueError, match=r'stripe_rows.*number of rows'):
            stripe_prediction(model, rows)
    broken = copy.deepcopy(model)
    assert isinstance(broken.backbone, DualResolutionEncoder)
    broken.backbone.shallow.stages[2][1] = Unlike()
    with pytest.raises(ValueError, match=r'backbone\.shallow\.stages\.2\.1'):
        stripe_prediction(broken, 64)


def test_other_models_are_refused():
    register_all_modules()
    hlrc = MODELS.build(small_config('hlrc'))
    with pytest.raises(ValueError, match='ParallelEncoders is not made of'):
        stripe_prediction(hlrc, 512)
    stock = Config.fromfile(CONFIGS / '_base_/models/deeplabv3plus_r18-d8.py')
    with pytest.raises(ValueError, match='ResNetV1c is no'):
        stripe_prediction(MODELS.build(stock.model), 512)
