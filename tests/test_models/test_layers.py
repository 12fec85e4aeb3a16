import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from mmseg_uhr.models.layers import (
    GSAG,
    LSAG,
    LaplacianInput,
    LaplacianPyramid,
)
from mmseg_uhr.models.layers.lsag import FlowAlign, WindowAlign, warp

AGGREGATES = ['descriptors', 'exact', 'grid', 'gap']
ALIGNS = ['flow', 'window', 'bilinear']


def gsag(aggregate, **kwargs):
    options = dict(channels=16, num_heads=2, num_descriptors=9)
    return GSAG(12, 20, aggregate=aggregate, **{**options, **kwargs})


def has_gradients(module):
    """Every parameter has a gradient, and not all of any is zero."""
    return all(
        p.grad is not None and p.grad.isfinite().all() and p.grad.any()
        for p in module.parameters()
    )


@pytest.mark.parametrize('aggregate', AGGREGATES)
@pytest.mark.parametrize('init', [False, True])
def test_gsag_starts_as_identity(aggregate, init):
    # A parent that initialises every convolution must not undo the zeros.
    parent = BaseModule(init_cfg=dict(type='Kaiming', layer='Conv2d'))
    parent.graft = gsag(aggregate)
    if init:
        parent.init_weights()
    deep = torch.randn(2, 12, 5, 7)
    assert torch.equal(parent.graft(deep, torch.randn(2, 20, 9, 13)), deep)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_gsag_trains_all_parameters(aggregate):
    graft = gsag(aggregate)
    nn.init.normal_(graft.out.weight)
    deep = torch.randn(2, 12, 5, 7)
    out = graft(deep, torch.randn(2, 20, 9, 13))
    assert out.shape == deep.shape
    out.square().sum().backward()
    assert has_gradients(graft)


@pytest.mark.parametrize('aggregate', ['descriptors', 'exact', 'gap'])
def test_gsag_reads_the_whole_shallow_map(aggregate):
    graft = gsag(aggregate).eval()
    nn.init.normal_(graft.out.weight)
    deep, shallow = torch.randn(1, 12, 4, 4), torch.randn(1, 20, 8, 8)
    changed = shallow.clone()
    changed[..., 7, 7] += 10
    difference = graft(deep, changed) - graft(deep, shallow)
    assert difference.abs().amin(dim=1).gt(0).all()


def test_gsag_descriptors_are_linear_in_memory():
    """No tensor is as large as deep positions x shallow positions."""
    graft = gsag('descriptors').eval()
    saved = []

    def pack(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        graft(torch.randn(1, 12, 40, 40), torch.randn(1, 20, 40, 40))
    assert max(saved) <= 20 * 1600


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(aggregate='mean'), "aggregate='mean' is unknown"),
        (dict(aggregate='exact', num_heads=3), 'num_heads=3'),
        (dict(aggregate='grid', num_descriptors=10), 'num_descriptors=10'),
    ],
)
def test_gsag_rejects(kwargs, message):
    with pytest.raises(ValueError, match=message):
        gsag(**kwargs)


def test_zero_flow_is_bilinear():
    coarse = torch.randn(2, 8, 7, 11)
    for size in [(14, 22), (13, 21), (28, 40), (7, 11)]:
        expected = F.interpolate(
            coarse, size, mode='bilinear', align_corners=False
        )
        zero = torch.zeros(2, 4, *size)
        torch.testing.assert_close(
            warp(coarse, zero), expected, atol=1e-5, rtol=0
        )


def test_flow_starts_as_bilinear_also_after_init_weights():
    graft = LSAG(6, 10, 8, align='flow', num_groups=4)
    graft.init_weights()
    coarse, fine = torch.randn(1, 8, 5, 6), torch.randn(1, 8, 10, 12)
    expected = F.interpolate(
        coarse, (10, 12), mode='bilinear', align_corners=False
    )
    torch.testing.assert_close(
        graft.align(coarse, fine), expected, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize('axis', [0, 1])
def test_constant_flow_shifts_by_one_coarse_pixel(axis):
    """Pairs are (dx, dy); one unit moves the map by one coarse pixel."""
    coarse = torch.randn(1, 4, 9, 9)
    offset = torch.zeros(1, 4, 18, 18)
    offset[:, axis::2] = 1
    moved = warp(coarse, offset)
    plain = warp(coarse, torch.zeros_like(offset))
    dim = 3 - axis  # x is the last dimension
    torch.testing.assert_close(
        moved.narrow(dim, 0, 15),
        plain.narrow(dim, 2, 15),
        atol=1e-5,
        rtol=0,
    )


def test_groups_flow_apart():
    coarse = torch.randn(1, 8, 6, 6)
    offset = torch.zeros(1, 4, 12, 12)
    offset[:, 0] = 1  # dx of the first of two groups
    plain = warp(coarse, torch.zeros_like(offset))
    moved = warp(coarse, offset)
    assert torch.equal(moved[:, 4:], plain[:, 4:])
    assert not torch.allclose(moved[:, :4], plain[:, :4])


def test_half_precision_flow_keeps_its_position():
    coarse = torch.linspace(0, 1, 300).expand(1, 1, 2, 300)
    zero = torch.zeros(1, 2, 4, 600)
    exact = warp(coarse, zero)
    half = warp(coarse.bfloat16(), zero.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=2**-8, rtol=0)


@pytest.mark.parametrize('size', [(12, 16), (11, 15)])
def test_uniform_window_is_a_box_average(size):
    align = WindowAlign(8)
    nn.init.zeros_(align.query.weight)
    nn.init.zeros_(align.query.bias)
    coarse = torch.randn(2, 8, 6, 8)
    box = F.avg_pool2d(
        F.pad(coarse, (1, 1, 1, 1), mode='replicate'), 3, stride=1
    )
    children = box.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(
        align(coarse, torch.randn(2, 8, *size)),
        children[:, :, : size[0], : size[1]],
        atol=1e-5,
        rtol=0,
    )


def test_window_attends_to_its_own_nine_cells():
    """Against the definition, position by position."""
    align = WindowAlign(4)
    coarse, fine = torch.randn(1, 4, 3, 4), torch.randn(1, 4, 6, 8)
    out = align(coarse, fine)
    query, key = align.query(fine), align.key(coarse)
    y, x = 3, 4  # child of coarse cell (1, 2)
    cells = [(0 + i, 1 + j) for i in range(3) for j in range(3)]
    scores = torch.stack(
        [(query[0, :, y, x] * key[0, :, i, j]).sum() for i, j in cells]
    )
    weights = (scores / 32**0.5).softmax(dim=0)
    expected = sum(w * coarse[0, :, i, j] for w, (i, j) in zip(weights, cells))
    torch.testing.assert_close(out[0, :, y, x], expected)


@pytest.mark.parametrize('align', ALIGNS)
@pytest.mark.parametrize('coarse_size', [(7, 11), (4, 6)])
def test_lsag_trains_all_parameters(align, coarse_size):
    graft = LSAG(6, 10, 8, align=align, num_groups=2)
    if isinstance(graft.align, FlowAlign):
        nn.init.normal_(graft.align.offset.weight)
    out = graft(torch.randn(2, 6, *coarse_size), torch.randn(2, 10, 13, 21))
    assert out.shape == (2, 8, 13, 21)
    (out * torch.randn_like(out)).sum().backward()
    assert has_gradients(graft)


def test_lsag_rejects():
    with pytest.raises(ValueError, match="align='nearest' is unknown"):
        LSAG(6, 10, 8, align='nearest')
    with pytest.raises(ValueError, match='num_groups=3'):
        LSAG(6, 10, 8, align='flow', num_groups=3)


@pytest.mark.parametrize('size', [(32, 48), (33, 47)])
def test_laplacian_levels_rebuild_the_image(size):
    x = torch.randn(2, 3, *size)
    pyramid = LaplacianPyramid(2)
    h0, h1 = pyramid(x)
    low = pyramid._down(x)
    rest = pyramid._down(low)
    assert h1.shape == low.shape
    torch.testing.assert_close(h1 + pyramid._up(rest, low.shape[2:]), low)
    torch.testing.assert_close(h0 + pyramid._up(low, x.shape[2:]), x)


@pytest.mark.parametrize('size', [(5, 5), (6, 9), (33, 20), (64, 47)])
def test_laplacian_is_that_of_the_definition(size):
    """Insert zeros, convolve, resize an enlarged map that is too large."""
    x = torch.randn(2, 3, *size)
    row = torch.tensor([1.0, 4, 6, 4, 1])
    kernel = (torch.outer(row, row) / 256)[None, None].expand(3, 1, 5, 5)

    def blur(x):
        x = F.pad(x, (2, 2, 2, 2), mode='reflect')
        return F.conv2d(x, kernel, groups=3)

    current = x
    for level in LaplacianPyramid(2)(x):
        low = blur(current)[:, :, ::2, ::2]
        sparse = torch.zeros(2, 3, low.shape[2] * 2, low.shape[3] * 2)
        sparse[:, :, ::2, ::2] = low
        up = F.interpolate(4 * blur(sparse), size=current.shape[2:])
        torch.testing.assert_close(level, current - up)
        current = low


def test_laplacian_of_too_small_an_image():
    LaplacianPyramid(3)(torch.randn(1, 3, 9, 9))
    with pytest.raises(ValueError, match='at least 9 pixels'):
        LaplacianPyramid(3)(torch.randn(1, 3, 9, 8))


def test_laplacian_of_a_flat_image_is_zero():
    for level in LaplacianPyramid(2)(torch.full((1, 3, 17, 20), 3.0)):
        torch.testing.assert_close(level, torch.zeros_like(level))


def test_laplacian_input_channels():
    x = torch.randn(1, 3, 21, 30)
    assert LaplacianInput()(x).shape == (1, 6, 21, 30)
    both = LaplacianInput(num_levels=1, keep_image=True)
    out = both(x)
    assert torch.equal(out[:, :3], x)
    assert torch.equal(out[:, 3:], both.pyramid(x)[0])
    assert not both.state_dict()
    with pytest.raises(ValueError, match='num_levels is 0'):
        LaplacianInput(num_levels=0)
