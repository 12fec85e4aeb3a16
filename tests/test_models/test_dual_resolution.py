import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmseg.models.backbones import STDCNet
from mmseg.registry import MODELS
from torch import nn

from mmseg_uhr.models.backbones import DualResolutionEncoder, ShallowSTDC

SHALLOW = dict(type='mmseg_uhr.ShallowSTDC', channels=(4, 4, 8, 16))
DEEP = dict(
    type='ResNetV1c',
    depth=18,
    base_channels=4,
    stem_channels=4,
    out_indices=(1, 2, 3),
)
GSAG = dict(
    type='mmseg_uhr.GSAG',
    shallow_channels=16,
    channels=8,
    num_heads=2,
    num_descriptors=4,
)


@pytest.fixture(autouse=True)
def _setup():
    init_default_scope('mmseg')


def build(**kwargs):
    options = dict(
        shallow=SHALLOW, deep=DEEP, graft=GSAG, graft_channels=(8, 16, 32)
    )
    return DualResolutionEncoder(**{**options, **kwargs})


def hooks(module):
    return sum(len(m._forward_hooks) for m in module.modules())


@pytest.mark.parametrize('down', [4, 6, 8])
def test_shapes(down):
    encoder = build(down=down).eval()
    maps = encoder(torch.randn(1, 3, 203, 331))
    assert [m.shape[1] for m in maps] == [8, 16, 8, 16, 32]
    assert maps[0].shape[2:] == (26, 42)
    assert maps[1].shape[2:] == (13, 21)
    low = [-(-(side // down) // 8) for side in (203, 331)]
    assert list(maps[2].shape[2:]) == low


def test_deep_network_sees_an_antialiased_copy():
    encoder = build(graft=None).eval()
    seen = []
    encoder.deep.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    # A pattern of single pixels, which plain sampling would alias.
    x = torch.zeros(1, 3, 64, 64)
    x[..., ::2] = 1
    encoder(x)
    assert seen[0].shape == (1, 3, 16, 16)
    torch.testing.assert_close(
        seen[0], torch.full_like(seen[0], 0.5), atol=0.07, rtol=0
    )


def test_deep_state_dict_is_stock():
    stock = MODELS.build(DEEP)
    encoder = build()
    assert encoder.deep.state_dict().keys() == stock.state_dict().keys()
    assert {k.split('.')[0] for k in encoder.state_dict()} == {
        'shallow',
        'deep',
        'grafts',
    }
    encoder.deep.load_state_dict(stock.state_dict())


def test_deep_loads_its_own_pretrained_weights(tmp_path):
    stock = MODELS.build(DEEP)
    path = str(tmp_path / 'weights.pth')
    torch.save(stock.state_dict(), path)
    encoder = build(
        deep=dict(DEEP, init_cfg=dict(type='Pretrained', checkpoint=path))
    )
    encoder.init_weights()
    torch.testing.assert_close(encoder.deep.state_dict(), stock.state_dict())


def test_grafts_feed_the_next_stage_and_start_as_identity():
    encoder = build().eval()
    x = torch.randn(1, 3, 128, 128)
    plain = encoder.deep(
        F.interpolate(x, (32, 32), mode='bilinear', antialias=True)
    )
    for own, grafted in zip(plain, encoder(x)[2:]):
        torch.testing.assert_close(own, grafted)
    nn.init.normal_(encoder.grafts[0].out.weight)
    changed = encoder(x)[2:]
    # The first graft alone reaches all three maps.
    assert not any(map(torch.allclose, plain, changed))


def test_hooks_live_during_the_forward_only():
    encoder = build().eval()
    x = torch.randn(1, 3, 64, 64)
    during = []
    encoder.deep.stem.register_forward_hook(
        lambda *_: during.append(hooks(encoder))
    )
    encoder(x)
    assert during == [4]
    assert hooks(encoder) == 1

    def fail(*_):
        raise RuntimeError('stop')

    handle = encoder.deep.layer3.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match='stop'):
        encoder(x)
    handle.remove()
    assert hooks(encoder) == 1


def test_copies_are_independent():
    encoder = build().eval()
    nn.init.normal_(encoder.grafts[2].out.weight)
    x = torch.randn(1, 3, 64, 96)
    before = encoder(x)
    twin = copy.deepcopy(encoder)
    for parameter in encoder.parameters():
        parameter.data.zero_()
    for own, other in zip(before, twin(x)):
        assert torch.equal(own, other)


def test_outputs_are_grafted_without_stages():
    deep = dict(
        type='MixVisionTransformer',
        embed_dims=4,
        num_stages=4,
        num_layers=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
    )
    encoder = build(deep=deep, graft_stages=None, graft_channels=(4, 4))
    x = torch.randn(1, 3, 128, 128)
    before = encoder.eval()(x)
    for graft in encoder.grafts:
        nn.init.normal_(graft.out.weight)
    after = encoder(x)
    same = [torch.equal(a, b) for a, b in zip(before, after)]
    assert same == [True] * 4 + [False] * 2


def test_nested_stage_names():
    deep = dict(type='MobileNetV2', widen_factor=0.25, out_indices=(1, 2, 4))
    encoder = build(
        deep=deep, graft_stages=('layer2.1', 'layer4'), graft_channels=(8, 16)
    )
    encoder(torch.randn(2, 3, 128, 128))


def test_mmpretrain_backbone():
    pytest.importorskip('torchvision')
    pytest.importorskip('mmpretrain')
    deep = dict(
        type='mmpretrain.ResNet',
        depth=18,
        base_channels=4,
        stem_channels=4,
        out_indices=(1, 2, 3),
    )
    maps = build(deep=deep)(torch.randn(2, 3, 128, 128))
    assert [m.shape[1] for m in maps] == [8, 16, 8, 16, 32]


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (
            dict(graft_stages=('layer2', 'layer9', 'layer4')),
            "no stage 'layer9' .* stem, maxpool, layer1, layer2",
        ),
        (dict(graft_stages=('layer2',)), 'differ in length'),
        (dict(down=0), 'down is 0'),
    ],
)
def test_rejects(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_names_the_wrong_channels():
    encoder = build(graft_channels=(8, 20, 32))
    with pytest.raises(
        ValueError, match="'layer3' of ResNetV1c has 16 .* says 20"
    ):
        encoder(torch.randn(2, 3, 128, 128))
    encoder = build(graft_stages=None, graft_channels=(8, 20, 32))
    with pytest.raises(ValueError, match='output 1 of ResNetV1c has 16'):
        encoder(torch.randn(2, 3, 128, 128))
    encoder = build(graft_stages=None, graft_channels=(4, 8, 16, 32))
    with pytest.raises(ValueError, match='returns 3 maps'):
        encoder(torch.randn(2, 3, 128, 128))


def test_names_a_stage_that_returns_no_map():
    deep = dict(
        type='MixVisionTransformer',
        embed_dims=4,
        num_stages=1,
        num_layers=(1,),
        num_heads=(1,),
        patch_sizes=(7,),
        strides=(4,),
        sr_ratios=(8,),
        out_indices=(0,),
    )
    encoder = build(
        deep=deep, graft_stages=('layers.0.0',), graft_channels=(4,)
    )
    with pytest.raises(TypeError, match='set graft_stages=None'):
        encoder(torch.randn(1, 3, 64, 64))


def test_shallow_network_with_an_input_layer():
    layer = dict(type='mmseg_uhr.LaplacianInput')
    encoder = build(
        shallow=dict(SHALLOW, in_channels=6, input_layer=layer)
    ).eval()
    flat = encoder(torch.zeros(1, 3, 64, 64))
    bright = encoder(torch.ones(1, 3, 64, 64))
    # High-pass input: the shallow maps do not see the brightness.
    torch.testing.assert_close(flat[0], bright[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(flat[2], bright[2])


@pytest.mark.parametrize('stdc_type', ['STDCNet1', 'STDCNet2'])
def test_shallow_stdc_is_stock_without_its_last_stage(stdc_type):
    stock = STDCNet(
        stdc_type,
        3,
        (4, 8, 16, 32, 64),
        'cat',
        dict(type='BN'),
        dict(type='ReLU'),
    ).eval()
    shallow = ShallowSTDC(stdc_type, channels=(4, 8, 16, 32)).eval()
    missing, left_over = shallow.load_state_dict(
        stock.state_dict(), strict=False
    )
    assert not missing
    assert all(key.startswith('stages.4.') for key in left_over)
    x = torch.randn(1, 3, 65, 97)
    for own, other in zip(shallow(x), stock(x)):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def test_shallow_stdc_rejects():
    with pytest.raises(ValueError, match='has 5 entries'):
        ShallowSTDC(channels=(4, 8, 16, 32, 64))


@pytest.mark.parametrize(
    'size', [(1028, 40), (1160, 33), (1157, 40), (520, 96)]
)
@pytest.mark.parametrize('levels', [0, 1, 2, 3])
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(out_indices=(1, 2, 3), num_convs=6),
        dict(out_indices=(0, 1, 2, 3), bottleneck_type='add'),
    ],
    ids=str,
)
def test_stripes_change_nothing(size, levels, options):
    layer = dict(type='mmseg_uhr.LaplacianInput', num_levels=levels)
    shallow = ShallowSTDC(
        **options,
        in_channels=3 * max(levels, 1),
        channels=(4, 8, 64, 128),
        input_layer=layer if levels else None,
    ).eval()
    x = torch.randn(1, 3, *size)
    whole = shallow(x)
    with torch.no_grad():
        striped = shallow(x)
    for own, other in zip(striped, whole, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_shrinking():
    x = torch.randn(2, 3, 37, 50)
    nearest = build(graft=None, shrink='nearest')._shrink(x)
    assert torch.equal(nearest[:, :, :, 0], x[:, :, :36:4, 0])
    haar = build(graft=None, shrink='haar')._shrink(x)
    expected = x[:, :, :36, :48].unfold(2, 4, 4).unfold(3, 4, 4)
    torch.testing.assert_close(haar, expected.mean(dim=(4, 5)))
    with pytest.raises(ValueError, match='power of two'):
        build(graft=None, shrink='haar', down=6)
    with pytest.raises(ValueError, match="shrink='area'"):
        build(graft=None, shrink='area')


def test_image_is_the_last_output():
    encoder = build(graft=None, return_image=True)
    x = torch.randn(2, 3, 64, 96)
    *maps, image = encoder(x)
    assert image is x
    assert len(maps) == len(build(graft=None)(x))
