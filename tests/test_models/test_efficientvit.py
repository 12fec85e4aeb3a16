import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmseg.utils import register_all_modules

from mmseg_uhr.models.backbones import EfficientViT, ParallelEncoders
from mmseg_uhr.models.layers.linear_attention import (
    MultiScaleLinearAttention,
    linear_attention,
)

CONVERTER = (
    Path(__file__).parents[2]
    / 'tools'
    / 'model_converters'
    / 'efficientvit.py'
)
TRUNK = 'refine_head.spa_branch.'


def small(**kwargs):
    return EfficientViT(
        widths=(6, 8, 12, 16), depths=(2, 2, 1), dim=4, **kwargs
    )


def with_statistics(model):
    """Batch norms that are not the identity."""
    for name, buffer in model.named_buffers():
        if 'running' in name:
            buffer.uniform_(0.5, 1.5)
    return model


def test_parameters_are_those_of_the_sheet():
    def count(model):
        return sum(p.numel() for p in model.parameters())

    assert count(EfficientViT()) == 2_519_280
    assert count(EfficientViT(in_channels=9)) == 2_520_576


@pytest.mark.parametrize('size', [(256, 64), (259, 70), (21, 33)])
@pytest.mark.parametrize('stripe', [2, 5])
@pytest.mark.parametrize('levels', [0, 2])
def test_stripes_change_nothing(size, stripe, levels, monkeypatch):
    options = {}
    if levels:
        options = dict(
            in_channels=9,
            input_layer=dict(
                type='mmseg_uhr.LaplacianInput',
                num_levels=levels,
                keep_image=True,
            ),
        )
    model = with_statistics(small(out_indices=(0, 1, 2), **options)).eval()
    x = torch.randn(2, 3, *size)
    whole = model(x)
    monkeypatch.setattr(
        'mmseg_uhr.models.backbones.efficientvit._STRIPE', stripe
    )
    with torch.no_grad():
        striped = model(x)
    for i, (a, b) in enumerate(zip(whole, striped)):
        height, width = (-(-side // 2 ** (i + 2)) for side in size)
        assert a.shape == (2, (8, 12, 16)[i], height, width)
        assert torch.allclose(a, b, atol=1e-5)


def test_linear_attention_is_its_definition():
    q, k, v = torch.randn(3, 2, 4, 7).double()
    weights = q.relu().transpose(1, 2) @ k.relu()
    expected = v @ (weights / weights.sum(2, keepdim=True)).transpose(1, 2)
    dead = q.relu().sum(1) == 0
    assert not dead.any()
    assert torch.allclose(linear_attention(q, k, v), expected)
    # A position that asks for nothing gets nothing, not NaN.
    assert not linear_attention(-q.abs(), k, v).any()


def test_half_precision():
    model = small().train()
    x = torch.randn(2, 3, 64, 64)
    with torch.autocast('cpu', torch.bfloat16):
        out = model(x)
    sum(map(torch.sum, out)).backward()
    for parameter in model.parameters():
        assert parameter.grad.isfinite().all()
    model.eval().bfloat16()
    with torch.no_grad():
        assert model(x.bfloat16())[-1].dtype == torch.bfloat16


def test_errors_name_the_option():
    with pytest.raises(ValueError, match='widths=.*depths='):
        EfficientViT(widths=(8, 8), depths=(1, 1))
    with pytest.raises(ValueError, match='out_indices=.*0 to 2'):
        EfficientViT(out_indices=(3,))
    with pytest.raises(ValueError, match='dim=32 does not divide'):
        MultiScaleLinearAttention(48, 32, dict(type='BN'))


def test_parallel_encoders_concatenate():
    register_all_modules()
    model = ParallelEncoders(
        [
            dict(
                type='mmseg_uhr.EfficientViT',
                widths=(6, 8, 12, width),
                depths=(1, 1, 1),
                dim=4,
                out_indices=indices,
            )
            for width, indices in ((16, (2,)), (20, (1, 2)))
        ]
    ).eval()
    x = torch.randn(1, 3, 64, 64)
    maps = model(x)
    assert [m.shape[1] for m in maps] == [16, 12, 20]
    assert torch.equal(maps[2], model.encoders[1](x)[1])


@pytest.mark.parametrize('channels', [3, 9])
def test_imagenet_weights(golden, tmp_path, monkeypatch, channels):
    shapes = golden.shapes('hlrc')
    state = {
        'backbone.' + name.removeprefix(TRUNK): value
        for name, value in golden.fill(shapes).items()
        if name.startswith(TRUNK)
    }
    kernel = state['backbone.input_stem.op_list.0.conv.weight']
    # Of the last stage and the classifier, which are not used.
    state['backbone.stages.3.op_list.0.main.point_conv.conv.weight'] = kernel
    state['head.op_list.0.conv.weight'] = kernel
    source, target = tmp_path / 'b2.pt', tmp_path / 'b2.pth'
    torch.save(dict(state_dict=state), source)
    monkeypatch.setattr(
        sys,
        'argv',
        ['efficientvit.py', str(source), str(target)],
    )
    runpy.run_path(str(CONVERTER), run_name='__main__')
    converted = torch.load(target, weights_only=True)['state_dict']
    EfficientViT().load_state_dict(converted, strict=True)
    model = EfficientViT(
        in_channels=channels,
        init_cfg=dict(type='Pretrained', checkpoint=str(target)),
    )
    model.init_weights()
    weight = model.stem.conv.conv.weight
    for part in weight.split(3, dim=1):
        assert torch.equal(part, kernel)


def test_each_of_several_networks_loads_its_weights(tmp_path):
    register_all_modules()
    small = dict(
        type='mmseg_uhr.EfficientViT',
        widths=(6, 8, 12, 16),
        depths=(1, 1, 1),
        dim=4,
    )
    weights = []
    for i in range(2):
        network = EfficientViT(**{k: small[k] for k in list(small)[1:]})
        torch.save(network.state_dict(), tmp_path / f'{i}.pth')
        weights.append(network.stem.conv.conv.weight)
    both = ParallelEncoders(
        [
            dict(
                small,
                init_cfg=dict(
                    type='Pretrained', checkpoint=str(tmp_path / f'{i}.pth')
                ),
            )
            for i in range(2)
        ]
    )
    both.init_weights()
    for network, weight in zip(both.encoders, weights, strict=True):
        assert torch.equal(network.stem.conv.conv.weight, weight)
