import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_uhr.tiling import (
    SYMMETRIES,
    BandAccumulator,
    Symmetry,
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
@given(plans(), st.sampled_from(['uniform', 'gaussian', 'linear', 'hann']))
def test_band_equals_a_full_canvas(drawn, blend):
    plan, _, _ = drawn
    generator = torch.Generator().manual_seed(0)
    weights = blend_weights(blend, plan.window_size)
    weights = torch.ones(plan.window_size) if weights is None else weights
    canvas, norm = torch.zeros(2, *plan.shape), torch.zeros(plan.shape)
    band, rows = BandAccumulator(plan, blend), []

    def finish(until):
        for y, sums, weight in band.finish(until):
            rows.append((y, sums.clone(), weight[0][:, None] * weight[1]))

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
    # The rim still counts, and its columns differ as those inside do.
    assert weights[0, 48] == pytest.approx(1e-3, rel=0.01)
    assert weights[0, 0] == pytest.approx(1e-6, rel=0.01)
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


@pytest.mark.parametrize(
    'length, starts',
    [
        (2448, [0, 388, 776, 1164, 1552, 1940]),
        (5000, [0, 449, 898, 1348, 1797, 2246, 2695, 3144, 3594, 4043, 4492]),
        (1024, [0, 258, 516]),
        (1016, [0, 254, 508]),
        (508, [0]),
        (300, [0]),
    ],
)
def test_even_placement(length, starts):
    """The patch grid of FCtL: 508 pixels, overlaps of at least 50."""
    plan = TilePlan((length, 508), (508, 508), (458, 458), 'even')
    assert plan.rows == starts
    assert plan.columns == [0]


def test_even_placement_covers_without_gaps():
    for length in range(1, 60):
        plan = TilePlan((length, 7), (8, 8), (5, 5), 'even')
        covered = {
            y + i for y in plan.rows for i in range(plan.window_size[0])
        }
        assert covered == set(range(length))
        steps = {b - a for a, b in zip(plan.rows, plan.rows[1:])}
        assert not steps or max(steps) <= 5
        assert not steps or max(steps) - min(steps) <= 1
    with pytest.raises(ValueError, match="placement 'odd'"):
        TilePlan((9, 9), (8, 8), (5, 5), 'odd')


def test_symmetries():
    x = torch.arange(2 * 3 * 4).view(2, 3, 4)
    seen = set()
    for symmetry in SYMMETRIES['d4']:
        turned = symmetry.apply(x)
        assert torch.equal(symmetry.undo(turned), x)
        seen.add((turned.shape, tuple(turned.flatten().tolist())))
        # A box and the pixels that it holds move alike.
        mask = torch.zeros(8, 8)
        mask[1:4, 2:7] = 1
        box = symmetry.apply_to_boxes(
            torch.tensor([[1 / 8, 2 / 8, 3 / 8, 5 / 8]])
        )
        y, row, h, w = (box[0] * 8).round().int().tolist()
        expected = torch.zeros(8, 8)
        expected[y : y + h, row : row + w] = 1
        assert torch.equal(symmetry.apply(mask), expected)
    assert len(seen) == 8
    # Counter-clockwise, as numpy turns.
    one = Symmetry(mirror=True, turns=1)
    expected = np.rot90(x[0].numpy()[:, ::-1])
    assert np.array_equal(one.apply(x[0]).numpy(), expected)


@settings(deadline=None)
@given(plans())
def test_centre_takes_the_window_whose_centre_is_nearest(drawn):
    plan, _, _ = drawn
    band = BandAccumulator(plan, 'centre')
    rows, windows = [], list(plan)
    for i, window in enumerate(windows):
        rows += [x.clone() for x in _finished(band, window.y)]
        band.add(torch.full((1, *plan.window_size), float(i)), window)
    rows += [x.clone() for x in _finished(band, plan.shape[0])]
    found = torch.cat(rows)
    cores = [plan.core(window) for window in windows]
    assert sum(core.h * core.w for core in cores) == found.numel()
    for y in range(plan.shape[0]):
        for x in range(0, plan.shape[1], 3):
            window = windows[int(found[y, x])]
            # Twice the distances, to stay with integers.
            assert abs(2 * y + 1 - 2 * window.y - window.h) == min(
                abs(2 * y + 1 - 2 * top - window.h) for top in plan.rows
            )
            assert abs(2 * x + 1 - 2 * window.x - window.w) == min(
                abs(2 * x + 1 - 2 * left - window.w) for left in plan.columns
            )


def _finished(band, until):
    for _, sums, norm in band.finish(until):
        assert all((weights == 1).all() for weights in norm)
        yield sums[0]


def test_uniform_shows_a_seam_and_others_do_not():
    """A network whose logits drift from rim to rim of its window."""
    plan = TilePlan((32, 160), (32, 64), (32, 48))
    steps = {}
    for blend in ('uniform', 'gaussian', 'linear', 'hann', 'centre'):
        band = BandAccumulator(plan, blend)
        for window in plan:
            drift = torch.linspace(-1, 1, 64).expand(1, 32, 64)
            band.add(drift, window)
        for _, sums, norm in band.finish(32):
            blended = sums[0] / (norm[0][:, None] * norm[1])
            # In the rows at the rim as well.
            steps[blend] = blended.diff(dim=1).abs().max().item()
    # Where the second window begins, or the halves of an overlap meet.
    assert steps['uniform'] > 0.5
    assert steps['centre'] > 0.5
    for blend in ('gaussian', 'linear', 'hann'):
        assert steps[blend] < 0.4 * steps['uniform'], blend
