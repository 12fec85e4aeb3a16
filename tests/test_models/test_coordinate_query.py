import math

import pytest
import torch
from torch import nn

from mmseg_uhr.models.layers import CoordinateQuery, coordinate_query
from mmseg_uhr.models.layers.coordinate_query import (
    PositionCode,
    nearest_cell,
    relative_coordinate,
)


def plain(query, maps, last):
    """The definition: one long vector per cell of the fine grid."""
    n, _, height, width = maps[0].shape
    vectors = []
    for x, code in zip(maps, query.codes):
        rows, columns = torch.arange(height), torch.arange(width)
        h, w = x.shape[2:]
        values = x[:, :, nearest_cell(rows, h, height)]
        values = values[..., nearest_cell(columns, w, width)]
        codes = code(
            relative_coordinate(rows, h, height),
            relative_coordinate(columns, w, width),
        )
        codes = codes.permute(2, 0, 1).expand(n, -1, -1, -1)
        vectors += [codes, values]
    x = torch.cat(vectors, dim=1)
    for layer in query.layers:
        x = layer(x)
    return last(x)


def build(in_channels=(3, 4, 5), **kwargs):
    query = CoordinateQuery(in_channels, (16, 8, 8), **kwargs)
    for module in query.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
        elif isinstance(module, PositionCode):
            # Learned codes mix both axes.
            module.emb.data += 0.3 * torch.randn_like(module.emb)
    return query, nn.Conv2d(8, 2, 1)


SIZES = [
    ((16, 24), (8, 12), (4, 6)),
    ((25, 33), (13, 17), (7, 9)),
    ((9, 7), (5, 4), (1, 1)),
    ((1, 1), (1, 1), (1, 1)),
    ((6, 4), (6, 2), (3, 4)),
    ((12, 10), (8, 5), (9, 20)),
]


@pytest.mark.parametrize('sizes', SIZES, ids=str)
@pytest.mark.parametrize('stripe', [1, 50, 10**6])
def test_equals_the_definition(sizes, stripe, monkeypatch):
    monkeypatch.setattr(coordinate_query, '_STRIPE_PIXELS', stripe)
    query, last = build()
    maps = [torch.randn(2, c, *s) for c, s in zip((3, 4, 5), sizes)]
    query.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            query(maps, last), plain(query, maps, last), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize('sizes', SIZES[:3], ids=str)
@pytest.mark.parametrize('norm', ['BN', 'GN', None])
def test_gradients_equal_the_definition(sizes, norm):
    norm_cfg = dict(BN=dict(type='BN'), GN=dict(type='GN', num_groups=2)).get(
        norm
    )
    query, last = build(norm_cfg=norm_cfg)
    query, last = query.double().train(), last.double()
    maps = [
        torch.randn(2, c, *s, dtype=torch.float64, requires_grad=True)
        for c, s in zip((3, 4, 5), sizes)
    ]
    gradients = []
    for function in (query, lambda maps, last: plain(query, maps, last)):
        query.zero_grad()
        out = function(maps, last)
        out.square().sum().backward()
        gradients.append(
            [p.grad.clone() for p in (*query.parameters(), *maps)]
        )
        for x in maps:
            x.grad = None
    for found, expected in zip(*gradients):
        # Single precision of the codes.
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_norms_that_see_the_map_are_not_striped(monkeypatch):
    monkeypatch.setattr(coordinate_query, '_STRIPE_PIXELS', 1)
    query, last = build(norm_cfg=dict(type='GN', num_groups=2))
    maps = [torch.randn(1, c, 6, 6) for c in (3, 4, 5)]
    with torch.no_grad():
        torch.testing.assert_close(
            query(maps, last), plain(query, maps, last), rtol=1e-4, atol=1e-5
        )


def test_coordinates(golden):
    """Of the grids of a window of 256 x 320 pixels, row by row, (y, x)."""
    expected = golden.arrays('sghrq')
    rows, columns = torch.arange(32), torch.arange(40)
    for level, (h, w) in enumerate(((32, 40), (16, 20), (8, 10)), start=1):
        y = relative_coordinate(rows, h, 32)
        x = relative_coordinate(columns, w, 40)
        r = torch.stack(torch.meshgrid(y, x, indexing='ij'), dim=-1)
        torch.testing.assert_close(
            r.reshape(1, -1, 2),
            torch.from_numpy(expected[f'A_rel_coord_l{level}']),
            rtol=0,
            atol=5e-6,
        )


@pytest.mark.parametrize('grid, cells', [(153, 77), (153, 39), (188, 47)])
def test_nearest_is_nearest(grid, cells):
    """Windows of 1224 and 1504 pixels have no ties."""
    position = torch.arange(grid)
    centres = (2 * torch.arange(cells).double() + 1) / cells
    at = (2 * position.double() + 1) / grid
    distance = (at[:, None] - centres).abs()
    nearest = nearest_cell(position, cells, grid)
    assert torch.equal(nearest, distance.argmin(dim=1))
    r = relative_coordinate(position, cells, grid)
    assert r.dtype == torch.float32
    torch.testing.assert_close(
        r.double(), (at - centres[nearest]) * cells, rtol=0, atol=1e-6
    )
    assert r.abs().max() <= 1
    period = grid // math.gcd(grid, cells)
    assert torch.equal(r[period:], r[:-period] if grid > period else r[:0])


def test_codes(golden):
    code = PositionCode()
    torch.testing.assert_close(
        code.emb.data, torch.from_numpy(golden.arrays('sghrq')['emb_default'])
    )
    assert code.channels == 26
    y, x = torch.tensor([-0.5, 0.25, 1.0]), torch.tensor([0.75, -1.0])
    found = code(y, x)
    assert found.shape == (3, 2, 26)
    assert found[1, 0, :2].tolist() == [0.25, 0.75]
    assert found[2, 1, 7].item() == pytest.approx(math.sin(64))
    assert found[2, 1, 8].item() == pytest.approx(math.sin(-1))
    assert found[1, 0, 14].item() == pytest.approx(math.cos(0.25))
    # The same grid: no offset, no gradient, but a gradient of zeros.
    code(torch.zeros(1), torch.zeros(1)).sum().backward()
    assert not code.emb.grad.any()
