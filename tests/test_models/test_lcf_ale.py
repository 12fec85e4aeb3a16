"""LCF-ALE: positions, the window's part of contexts, and FCtL without."""

from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

import mmseg_uhr  # noqa: F401
from mmseg_uhr.models.layers import ContextFusion, EncodedContext
from mmseg_uhr.models.layers.context_fusion import ViewGeometry
from mmseg_uhr.models.layers.correlation import RelativePosition, TokenGrid
from mmseg_uhr.models.layers.local_enhancement import window_part

CONFIGS = Path(__file__).parents[2] / 'configs' / 'lcf_ale'
CHANNELS = 8
VGG = dict(stride=32, offset=-83.5, side=(508, 508))
GEOMETRY = dict(scales=dict(medium=2, large=3))


def fusion(position=None, **enhancement):
    torch.manual_seed(0)
    options = {}
    if position is not None:
        options.update(position=position)
    if enhancement:
        options.update(
            enhancement=dict(type='mmseg_uhr.LocalEnhancement', **enhancement)
        )
    if options:
        options.update(geometry=GEOMETRY)
    return ContextFusion(CHANNELS, **options)


def maps():
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 5, 6), (2, 4, 7), (1, 6, 3))
    return [
        torch.randn(n, CHANNELS, h, w, generator=generator)
        for n, h, w in shapes
    ]


def open_gammas(module):
    for name, parameter in module.named_parameters():
        if name.endswith('gamma'):
            torch.nn.init.ones_(parameter)
    return module


@pytest.mark.parametrize('mode', ['contexts', 'two-way'])
def test_gate_and_enhancement_off_is_fctl(mode):
    plain = open_gammas(fusion())
    ours = fusion(position=dict(gate=-1000), mode=mode)
    missing, unexpected = ours.load_state_dict(
        plain.state_dict(), strict=False
    )
    assert not unexpected
    assert all('position' in n or 'enhancement' in n for n in missing)
    local, *contexts = maps()
    assert torch.equal(ours(local, contexts), plain(local, contexts))


def test_position_equals_the_map_of_all_pairs():
    position = RelativePosition()
    with torch.no_grad():
        position.linear.copy_(torch.tensor([0.7, -1.2]))
        position.square.fill_(-3.0)
    values = torch.randn(2, CHANNELS, 4, 5)
    rows, columns = torch.randn(2, 3, 4), torch.randn(2, 6, 5)
    dy, dx = rows[:, :, None, :, None], columns[:, None, :, None, :]
    logits = 0.7 * dy - 1.2 * dx - 3.0 * (dy**2 + dx**2)
    weights = logits.flatten(3).softmax(dim=-1).view(logits.shape)
    expected = torch.einsum('nchw,nyxhw->ncyx', values, weights)
    found = position.attend(values, rows, columns)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_open_gate_reads_from_where_the_window_lies():
    """A steep slope makes the map a sampling of the same place."""
    module = fusion(position=dict(gate=1000, slope=1e4))
    layer = module.correlations['medium']
    torch.nn.init.ones_(layer.gamma)
    layer.value.weight.data = torch.eye(CHANNELS)[:, :, None, None]
    context = torch.randn(1, CHANNELS, 16, 16)
    local = torch.randn(1, CHANNELS, 8, 8)
    offsets = module.geometry.offsets('medium', local, EncodedContext(context))
    # The window is the middle half of the context.
    torch.testing.assert_close(
        layer(local, context, offsets), context[:, :, 4:12, 4:12]
    )


def test_positions_of_vgg():
    grid = TokenGrid(**VGG)
    x = torch.zeros(1, 1, 23, 23)
    fractions = grid.fractions(23, 0, x)
    assert fractions[3] * 508 - 0.5 == pytest.approx(32 * 3 - 83.5, abs=1e-4)
    index = grid.indices(fractions, 23, 1)
    torch.testing.assert_close(index, torch.arange(23.0), atol=1e-4, rtol=0)
    # The window's rim in contexts of 2 and 3 times its size.
    rim = torch.tensor([0.0, 1.0])
    for scale, (first, last) in {2: (6.6, 14.5), 3: (7.9, 13.2)}.items():
        fractions = 0.5 + (rim - 0.5) / scale
        index = grid.indices(fractions, 23, 0)
        assert index.tolist() == pytest.approx([first, last], abs=0.06)


def test_window_part_is_sampled_at_the_windows_positions():
    geometry = ViewGeometry(grid=VGG, **GEOMETRY)
    local = torch.zeros(1, 1, 23, 23)
    # A context whose values are the rows' numbers.
    rows = torch.arange(23.0)[:, None].expand(1, 1, 23, 23)
    part = window_part('large', local, EncodedContext(rows), geometry)
    pixels = 32 * torch.arange(23.0) - 83.5
    seen = 253.5 + (pixels - 253.5) / 3
    expected = (seen + 83.5) / 32
    torch.testing.assert_close(part[0, 0, :, 7], expected, atol=1e-3, rtol=0)


def test_box_of_a_whole_scene():
    """Windows that share a context lie at different places of it."""
    module = fusion(position=dict(gate=0.0))
    local, medium, large = maps()
    open_gammas(module)
    boxes = torch.tensor([[0.0, 0.0, 0.25, 0.5], [0.75, 0.5, 0.25, 0.5]])
    there = EncodedContext(large, boxes)
    found = module(local, [medium, there])
    assert not torch.allclose(found, module(local, [medium, large]))
    for i in (0, 1):
        alone = [medium[i : i + 1], EncodedContext(large, boxes[i : i + 1])]
        torch.testing.assert_close(
            module(local[i : i + 1], alone), found[i : i + 1]
        )
    middle = torch.tensor([[1 / 3, 1 / 3, 1 / 3, 1 / 3]]).expand(2, 4)
    torch.testing.assert_close(
        module(local, [medium, EncodedContext(large, middle)]),
        module(local, [medium, large]),
    )


@pytest.mark.parametrize('mode', ['contexts', 'two-way'])
def test_enhancement_takes_turns(mode):
    module = open_gammas(fusion(mode=mode, rounds=2))
    local, *contexts = maps()
    contexts = [EncodedContext(x) for x in contexts]
    enhancement, geometry = module.enhancement, module.geometry
    found = enhancement(local, contexts, geometry)
    expected = local
    parts = {
        name: window_part(name, local, context, geometry)
        for name, context in zip(('medium', 'large'), contexts)
    }
    for step in (0, 1):
        for name in ('medium', 'large'):
            if mode == 'two-way':
                layer = enhancement.to_context[step][name]
                parts[name] = parts[name] + layer(parts[name], expected)
            layer = enhancement.to_local[step][name]
            expected = expected + layer(expected, parts[name])
    torch.testing.assert_close(found, expected)
    module(local, contexts).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name


def test_wrong_options_are_explained():
    with pytest.raises(ValueError, match="mode='both'"):
        fusion(mode='both')
    with pytest.raises(ValueError, match='rounds=0'):
        fusion(rounds=0)
    with pytest.raises(ValueError, match='both stride and side'):
        TokenGrid(stride=32)


def test_configs_build():
    register_all_modules()
    for path in sorted(CONFIGS.glob('*.py')):
        config = Config.fromfile(path)
        with torch.device('meta'):
            model = MODELS.build(config.model)
        head = model.decode_head if 'vgg' in path.name else model.neck
        assert head.fusion.enhancement is not None
        views = [name for name in model.views if name != 'local']
        assert list(head.fusion.contexts) == views
        assert set(head.fusion.geometry.scales) == {'local', *views}
