"""ISDNet equals its reference implementation, and what it promises beyond."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

import mmseg_uhr  # noqa: F401
from mmseg_uhr.models.layers import LaplacianPyramid, RelationAwareFusion
from mmseg_uhr.models.losses import FeatureAffinityLoss

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/isdnet/isdnet_r18_80k_deepglobe-1224x1224.py'
SIZE = (256, 320)


def meta(size):
    return dict(img_shape=size, ori_shape=size, pad_shape=size)


def close(found, expected):
    """At the tolerance that the reference's own rounding needs."""
    found = found.detach().numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-3)


@pytest.fixture(scope='module')
def reference(golden):
    """Weights by the authors' names, each tensor under one name."""
    return golden.fill(golden.shapes('isdnet'))


@pytest.fixture(scope='module')
def model(golden, reference):
    register_all_modules()
    model = MODELS.build(Config.fromfile(CONFIG).model)
    model.load_state_dict(golden.convert('isdnet', reference), strict=True)
    return model.eval()


@pytest.fixture(scope='module')
def image():
    x = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    assert x.double().sum().item() == pytest.approx(-911.2201, abs=1e-4)
    return x


def test_logits(model, image, golden):
    expected = golden.arrays('isdnet')
    with torch.no_grad():
        logits = model.encode_decode(image, [meta(SIZE)])
        coarse = model.decode_head(model.extract_feat(image))
    close(logits[..., ::4, ::4], expected['logits_s4'])
    close(coarse, expected['logits_s8'])
    classes = logits.argmax(dim=1).flatten().bincount(minlength=7)
    assert classes.tolist() == [1412, 50229, 3793, 54, 0, 26432, 0]


def test_intermediates(model, image, golden):
    expected = golden.arrays('isdnet')
    fine, coarse = LaplacianPyramid(2)(image)
    close(coarse[..., ::2, ::2], expected['lap_residual_half_s2'])
    close(fine[..., ::4, ::4], expected['lap_residual_full_s4'])
    seen = {}
    deep = model.backbone.deep
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update(
                {name: output}
            )
        )
        for name, module in dict(
            stem=deep.stem,
            layer1=deep.layer1,
            layer2=deep.layer2,
            layer3=deep.layer3,
            layer4=deep.layer4,
            raf8=model.neck.fusions[0],
            raf16=model.neck.fusions[1],
        ).items()
    ]
    with torch.no_grad():
        close(model.backbone._shrink(image), expected['deep_input'])
        shallow8, shallow16, *_ = model.backbone(image)
        maps = model.extract_feat(image)
        coarse = model.auxiliary_head[0](maps)
    for handle in handles:
        handle.remove()
    for name, step in dict(
        stem=8, layer1=4, layer2=4, layer3=8, layer4=8
    ).items():
        key = f'deep_{name}_c{step}'
        close(seen[name][:, ::step], expected[key])
    close(shallow8[:, ::32], expected['shallow8_c32'])
    close(shallow16[:, ::32], expected['shallow16_c32'])
    close(maps[3], expected['aspp_feat'])
    close(coarse, expected['deep_logits'])
    for name, step in (('raf16', 8), ('raf8', 32)):
        fused, enlarged = seen[name]
        close(fused[:, ::step], expected[f'{name}_out_c{step}'])
        close(enlarged[:, ::step], expected[f'{name}_c_c{step}'])
    # The weighted shallow maps go straight into the sum.
    fuse8, fuse16 = model.neck.fusions
    for name, step, fuse, shallow, deep in (
        ('raf16', 8, fuse16, shallow16, maps[3]),
        ('raf8', 32, fuse8, shallow8, seen['raf16'][0]),
    ):
        with torch.no_grad():
            shallow, deep = fuse.shallow_conv(shallow), fuse.deep_conv(deep)
            weighted = shallow * fuse._weights(shallow, deep)[0]
        close(weighted[:, ::step], expected[f'{name}_s_c{step}'])


def test_losses(model, image, golden):
    """In eval mode: running statistics, no dropout."""
    expected = golden.arrays('isdnet')
    expected = dict(zip(expected['loss_names'], expected['loss_values']))
    label = torch.randint(
        0, 7, (1, 1, *SIZE), generator=torch.Generator().manual_seed(1)
    )
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=label[0]), metainfo=meta(SIZE)
    )
    losses = model.loss(image, [sample])
    names = {
        'decode.loss_ce': 'refine.loss_seg',
        'aux_0.loss_ce': 'decode.loss_seg',
        'aux_0.loss_recon': 'aux_3.recon_losses',
        'aux_0.loss_affinity': 'aux_4.fa_loss',
        'aux_1.loss_ce': 'aux_1.loss_seg',
        'aux_2.loss_ce': 'aux_2.loss_seg',
        'aux_3.loss_ce': 'aux.loss_seg',
    }
    assert {k for k in losses if 'loss' in k} == set(names)
    for ours, theirs in names.items():
        assert losses[ours].item() == pytest.approx(
            expected[theirs], rel=1e-5
        ), ours
    for ours, theirs in names.items():
        if theirs.endswith('loss_seg'):
            accuracy = losses[ours.replace('loss_ce', 'acc_seg')].item()
            theirs = theirs.replace('loss_seg', 'acc_seg')
            assert accuracy == pytest.approx(expected[theirs], abs=1e-3)


def test_parameters_are_those_of_the_paper(model):
    assert sum(p.numel() for p in model.parameters()) == 17_780_554


def test_converter_takes_either_name(golden, reference):
    """Released files hold the shallow network twice, as slices and whole."""
    trunk = 'refine_head.stdc_net.'
    whole = {
        k: v
        for k, v in reference.items()
        if not k.startswith(trunk) or k.startswith(trunk + 'features')
    }
    slices = {
        k: v
        for k, v in reference.items()
        if not k.startswith(trunk + 'features')
    }
    assert len(whole) == len(slices) == len(reference) - 120
    whole, slices = (golden.convert('isdnet', s) for s in (whole, slices))
    both = golden.convert('isdnet', reference)
    assert whole.keys() == slices.keys() == both.keys()
    assert all(torch.equal(both[k], slices[k]) for k in both)
    with pytest.raises(SystemExit, match='unknown parameters refine_head.x'):
        golden.convert('isdnet', {**reference, 'refine_head.x': torch.ones(1)})


@pytest.mark.parametrize('size', [(64, 64), (257, 321), (250, 330), (306, 97)])
def test_equals_a_plain_build(model, reference, build_naive, size):
    plain = build_naive('isdnet')
    plain.load_reference(reference)
    x = torch.randn(2, 3, *size)
    metas = [meta(size)] * 2
    with torch.no_grad():
        close(
            model.encode_decode(x, metas),
            plain.encode_decode(x, metas).numpy(),
        )


def test_affinity_loss():
    feature, target = torch.randn(2, 4, 3, 5), torch.randn(2, 6, 3, 5)

    def affinity(x, axis):
        x = x.flatten(2)
        x = x / x.norm(dim=axis, keepdim=True)
        return torch.einsum('ncp,ncq->npq', x, x)

    for normalize, axis in (('channel', 2), ('position', 1)):
        expected = affinity(feature, axis) - affinity(target, axis)
        loss = FeatureAffinityLoss(normalize, loss_weight=2.0)
        assert loss(feature, target).item() == pytest.approx(
            2 * expected.abs().mean().item(), rel=1e-4
        )
    feature.requires_grad_()
    target.requires_grad_()
    FeatureAffinityLoss()(feature, target).backward()
    assert feature.grad.any()
    assert target.grad is None
    # A map without a value anywhere has no direction, but a loss.
    assert FeatureAffinityLoss()(feature * 0, target).isfinite()
    with pytest.raises(ValueError, match="normalize='spatial'"):
        FeatureAffinityLoss('spatial')


def test_fusion_errors():
    with pytest.raises(ValueError, match='choose a divisor'):
        RelationAwareFusion(8, 12, groups=5)
    fusion = RelationAwareFusion(8, 16, groups=4)
    with pytest.raises(ValueError, match='batch_size to 2'):
        fusion(torch.randn(1, 8, 4, 4), torch.randn(1, 16, 2, 2))


def test_group_norm_of_means_trains_with_one_image():
    register_all_modules()
    norm = dict(type='BN')
    neck = MODELS.build(
        dict(
            type='mmseg_uhr.ISDNeck',
            shallow_channels=(8, 12),
            deep_channels=12,
            channels=16,
            groups=4,
            norm_cfg=norm,
            pool_norm_cfg=dict(type='GN', num_groups=4),
        )
    )
    maps = [(8, 16), (12, 8), (4, 4), (12, 4), (3, 128)]
    out = neck([torch.randn(1, c, side, side) for c, side in maps])
    shapes = [tuple(x.shape[1:3]) for x in out]
    assert shapes == [
        *((16, 16), (16, 16), (16, 8), (16, 4), (4, 4), (12, 4), (3, 128)),
    ]
    sum(x.sum() for x in out[:4]).backward()
    assert all(p.grad is not None for p in neck.parameters())


@pytest.mark.parametrize('channels', [3, 6, 9])
def test_pretrained_stem_is_repeated(tmp_path, channels):
    """As released: the kernel of three channels again for every three."""
    register_all_modules()
    shallow = dict(type='mmseg_uhr.ShallowSTDC', channels=(4, 8, 16, 32))
    torch.save(MODELS.build(shallow).state_dict(), tmp_path / 'stdc.pth')
    weight = torch.load(tmp_path / 'stdc.pth')['stages.0.conv.weight']
    network = MODELS.build(
        dict(
            shallow,
            in_channels=channels,
            init_cfg=dict(
                type='Pretrained', checkpoint=str(tmp_path / 'stdc.pth')
            ),
        )
    )
    network.init_weights()
    found = network.state_dict()['stages.0.conv.weight']
    for part in found.split(3, dim=1):
        assert torch.equal(part, weight)
    # A whole model's checkpoint has to fit.
    whole = torch.nn.ModuleDict(dict(shallow=network))
    if channels > 3:
        with pytest.raises(RuntimeError, match='size mismatch'):
            whole.load_state_dict({'shallow.stages.0.conv.weight': weight})
