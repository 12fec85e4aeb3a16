import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_uhr.tiling import (
    BandAccumulator,
    TilePlan,
    Window,
    blend_weights,
    parse_views,
)

sizes = st.integers(1, 40)


@st.composite
def plans(draw):
    shape = draw(st.tuples(sizes, sizes))
    crop = draw(st.tuples(sizes, sizes))
    stride = tuple(draw(st.integers(1, c)) for c in crop)
    return TilePlan(shape, crop, stride), crop, stride


def stock_windows(shape, crop, stride):
    """The loop of mmseg's ``slide_inference``."""
    h_img, w_img = shape
    h_crop, w_crop = crop
    rows = max(h_img - h_crop + stride[0] - 1, 0) // stride[0] + 1
    columns = max(w_img - w_crop + stride[1] - 1, 0) // stride[1] + 1
    for row in range(rows):
        for column in range(columns):
            y2 = min(row * stride[0] + h_crop, h_img)
            x2 = min(column * stride[1] + w_crop, w_img)
            y1, x1 = max(y2 - h_crop, 0), max(x2 - w_crop, 0)
            yield y1, x1, y2 - y1, x2 - x1


@given(plans())
def test_windows_lie_where_stock_puts_them(drawn):
    plan, crop, stride = drawn
    expected = list(stock_windows(plan.shape, crop, stride))
    assert list(plan) == expected
    assert len(plan) == len(expected) == len(set(expected))


@settings(deadline=None)
@given(plans(), st.sampled_from(['uniform', 'gaussian']))
def test_band_equals_a_full_canvas(drawn, blend):
    plan, _, _ = drawn
    generator = torch.Generator().manual_seed(0)
    weights = blend_weights(blend, plan.window_size)
    weights = torch.ones(plan.window_size) if weights is None else weights
    canvas, norm = torch.zeros(2, *plan.shape), torch.zeros(plan.shape)
    band, rows = BandAccumulator(plan, blend), []

    def finish(until):
        for y, sums, weight in band.finish(until):
            rows.append((y, sums.clone(), weight.clone()))

    for window in plan:
        logits = torch.rand(2, *plan.window_size, generator=generator)
        y, x, h, w = window
        canvas[:, y : y + h, x : x + w] += logits * weights
        norm[y : y + h, x : x + w] += weights
        finish(window.y)
        band.add(logits, window)
        assert band._sums.shape[1] == plan.window_size[0]
    finish(plan.shape[0])
    assert [y for y, *_ in rows] == sorted(y for y, *_ in rows)
    torch.testing.assert_close(torch.cat([r[1] for r in rows], 1), canvas)
    torch.testing.assert_close(torch.cat([r[2] for r in rows], 0), norm)
    assert norm.min() > 0


def test_half_precision_is_summed_in_single():
    plan = TilePlan((4, 4), (4, 4), (4, 4))
    band = BandAccumulator(plan)
    band.add(torch.ones(2, 4, 4, dtype=torch.half), Window(0, 0, 4, 4))
    [(_, sums, _)] = band.finish(4)
    assert sums.dtype == torch.float32


def test_gaussian_weights():
    weights = blend_weights('gaussian', (64, 96))
    assert weights.shape == (64, 96)
    assert weights.max() == 1
    assert weights.min() == pytest.approx(1e-3)
    assert weights[32, 48] > weights[32, 80] > weights[2, 80]
    torch.testing.assert_close(weights, weights.flip(0).flip(1))


@pytest.mark.parametrize(
    'crop, stride, message',
    [
        ((8, 8), (9, 8), 'larger than crop_size'),
        ((0, 8), (8, 8), 'at least 1'),
        ((8,), (8, 8), 'expected .height, width.'),
        ((8, 8), (8, 0), 'at least 1'),
    ],
)
def test_plans_that_make_no_sense(crop, stride, message):
    with pytest.raises(ValueError, match=message):
        TilePlan((32, 32), crop, stride)


def test_unknown_blend():
    with pytest.raises(ValueError, match="blend 'sharp': expected one of"):
        blend_weights('sharp', (4, 4))


def test_views():
    views = parse_views(
        dict(
            context=dict(region=3, size=(32, 32)),
            scene=dict(region='scene', scale=0.25),
        )
    )
    assert list(views) == ['local', 'context', 'scene']
    window, shape = Window(10, 20, 16, 32), (200, 100)
    assert views['local'].region_of(window, shape) == window
    assert views['local'].size_of(window) == (16, 32)
    context = views['context'].region_of(window, shape)
    assert context == (-6, -12, 48, 96)
    assert views['context'].size_of(context) == (32, 32)
    assert window.box_in(context) == pytest.approx((1 / 3,) * 4)
    scene = views['scene'].region_of(window, shape)
    assert scene == (0, 0, 200, 100)
    assert views['scene'].size_of(scene) == (50, 25)
    assert views['scene'].whole_scene
    assert not views['context'].whole_scene


@pytest.mark.parametrize(
    'view, message',
    [
        (dict(region='everything'), 'view region'),
        (dict(region=0.5), 'factor of at least 1'),
        (dict(size=(8, 8), scale=0.5), 'not both'),
        (dict(zoom=2), "view 'v'"),
        (3, "view 'v'"),
    ],
)
def test_views_that_make_no_sense(view, message):
    with pytest.raises(ValueError, match=message):
        parse_views(dict(v=view))
