"""Arrays and tensors go the same way, to the same values."""

import numpy as np
import pytest
import torch

from mmseg_uhr.tiling import (
    BLENDS,
    SYMMETRIES,
    BandAccumulator,
    TilePlan,
    blend_weights,
)
from mmseg_uhr.tiling.arrays import operations_of


def both(*shape, seed=0):
    values = np.random.default_rng(seed).normal(0, 3, shape)
    values = values.astype(np.float32)
    return values, torch.from_numpy(values.copy())


def equal(array, tensor, atol=1e-6):
    assert isinstance(array, np.ndarray)
    assert isinstance(tensor, torch.Tensor)
    assert str(array.dtype) == str(tensor.dtype).removeprefix('torch.')
    np.testing.assert_allclose(array, tensor.numpy(), atol=atol)


@pytest.mark.parametrize('dtype, atol', [('float32', 1e-5), ('float16', 0.02)])
@pytest.mark.parametrize('blend', BLENDS)
def test_bands(blend, dtype, atol):
    plan = TilePlan((95, 70), (32, 24), (20, 17))
    bands = [BandAccumulator(plan, blend, 5, dtype) for _ in range(2)]
    rows = 5

    def finish(until):
        nonlocal rows
        for (y, sums, norm), (_, other, other_norm) in zip(
            *(band.finish(until) for band in bands), strict=True
        ):
            assert y == rows
            rows += sums.shape[1]
            equal(sums, other, atol)
            for one, another in zip(norm, other_norm, strict=True):
                equal(one, another)

    for i, window in enumerate(plan):
        if window.y > rows:
            finish(window.y)
        for band, logits in zip(bands, both(4, 32, 24, seed=i), strict=True):
            band.add(logits, window)
        assert not bands[0].move_to_host()
    finish(95)
    assert rows == 95


@pytest.mark.parametrize('blend', ['gaussian', 'linear', 'hann'])
def test_weights(blend):
    equal(blend_weights(blend, (33, 20), np), blend_weights(blend, (33, 20)))


@pytest.mark.parametrize('symmetry', SYMMETRIES['d4'], ids=str)
def test_symmetries(symmetry):
    array, tensor = both(2, 3, 5, 7)
    turned = symmetry.apply(array)
    equal(turned, symmetry.apply(tensor))
    np.testing.assert_array_equal(symmetry.undo(turned), array)
    boxes = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    equal(
        symmetry.apply_to_boxes(boxes),
        symmetry.apply_to_boxes(torch.from_numpy(boxes)),
    )


@pytest.mark.parametrize('size', [(5, 7), (10, 14), (3, 21), (20, 9)])
def test_resizing(size):
    array, tensor = both(2, 6, 10, 14)
    found = operations_of(array).resized(array, size)
    equal(found, operations_of(tensor).resized(tensor, size), 1e-5)


def test_logits_of_higher_precision_raise_that_of_the_sums():
    plan = TilePlan((4, 4), (4, 4), (4, 4))
    for kind, dtype in ((np.float64, 'float64'), (np.float16, 'float32')):
        band = BandAccumulator(plan)
        band.add(np.ones((2, 4, 4), kind), next(iter(plan)))
        [(_, sums, _)] = band.finish(4)
        assert sums.dtype == dtype
