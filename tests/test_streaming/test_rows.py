import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_uhr.rasters import ArrayRaster
from mmseg_uhr.streaming import (
    FinishedRows,
    Outputs,
    StreamSettings,
    stream_rows,
)
from mmseg_uhr.streaming.rows import finish_rows
from mmseg_uhr.tiling import parse_views


def weights(rows, columns):
    return torch.rand(rows) + 0.1, torch.rand(columns) + 0.1


@pytest.mark.parametrize('classes', [2, 5])
def test_probabilities_are_those_of_the_mean_logits(classes):
    # More rows than are decided at a time.
    logits, norm = torch.randn(classes, 300, 40), weights(300, 40)
    sums = logits * norm[0][:, None] * norm[1]
    wanted = Outputs(probabilities=(1, 0), confidence=True)
    found = finish_rows(7, sums, norm, wanted)
    expected = logits.softmax(0)
    assert found.y == 7
    assert torch.equal(found.labels.long(), expected.argmax(0))
    assert found.probabilities.dtype == torch.uint8
    torch.testing.assert_close(
        found.probabilities / 255, expected[[1, 0]], atol=0.6 / 255, rtol=0
    )
    torch.testing.assert_close(
        found.confidence / 255, expected.amax(0), atol=0.6 / 255, rtol=0
    )


def test_one_channel_has_two_classes():
    norm = weights(1, 3)
    logits = torch.tensor([[[-2.0, 2.0, 0.3]]])
    sums = logits * norm[0][:, None] * norm[1]
    found = finish_rows(0, sums, norm, Outputs((0, 1), True), threshold=0.6)
    one = logits[0].sigmoid()
    assert found.labels.tolist() == [[0, 1, 0]]
    chosen = torch.where(found.labels == 1, one, 1 - one)
    expected = torch.stack((1 - one, one, chosen))
    got = torch.cat((found.probabilities, found.confidence[None])) / 255
    torch.testing.assert_close(got, expected, atol=0.6 / 255, rtol=0)
    plain = finish_rows(0, sums, norm, threshold=0.6)
    assert torch.equal(plain.labels, found.labels)


def test_labels_alone_need_no_other_tensors():
    found = finish_rows(0, torch.randn(3, 4, 5), weights(4, 5))
    assert isinstance(found, FinishedRows)
    assert found.probabilities is found.confidence is None


def convolution(batch):
    """A network that sees its neighbours, so that windows differ."""
    pixels = torch.stack([views['local'] for views in batch.inputs])
    kernel = torch.arange(5 * 9.0).reshape(5, 1, 3, 3).sin()
    return torch.conv2d(pixels.float(), kernel, padding=1)


@st.composite
def runs(draw):
    shape = draw(st.integers(1, 60)), draw(st.integers(1, 50))
    crop = draw(st.integers(3, 20)), draw(st.integers(3, 20))
    stride = tuple(draw(st.integers(1, side)) for side in crop)
    start = draw(st.integers(0, shape[0] - 1))
    stop = draw(st.integers(start + 1, shape[0]))
    chosen = StreamSettings(
        crop,
        stride,
        draw(st.integers(1, 5)),
        draw(st.sampled_from(['uniform', 'gaussian', 'centre'])),
        draw(st.sampled_from(['flush', 'even'])),
        accumulator=draw(st.sampled_from(['float32', 'float16'])),
    )
    return shape, chosen, (start, stop)


def stream(pixels, chosen, **kwargs):
    rows = stream_rows(
        ArrayRaster(pixels),
        chosen,
        parse_views(None),
        convolution,
        outputs=Outputs((0, 3), True),
        **kwargs,
    )
    return join(rows)


def join(rows):
    rows = list(rows)
    tops = [found.y for found in rows]
    assert tops == sorted(tops)
    maps = [torch.cat([found[i] for found in rows], dim=-2) for i in (1, 2, 3)]
    return tops[0], maps


@settings(deadline=None, max_examples=60)
@given(runs())
def test_some_rows_are_those_of_a_run_over_all(run):
    shape, chosen, (start, stop) = run
    pixels = np.random.default_rng(0).random(shape, np.float32)
    _, everything = stream(pixels, chosen)
    top, some = stream(pixels, chosen, rows=(start, stop))
    assert top == start
    for found, expected in zip(some, everything, strict=True):
        assert torch.equal(found, expected[..., start:stop, :])


@pytest.mark.parametrize('rows', [(-1, 3), (3, 3), (0, 11)])
def test_rows_that_are_not_there(rows):
    with pytest.raises(ValueError, match='the scene has 10'):
        stream(np.zeros((10, 4)), StreamSettings((4, 4), (4, 4)), rows=rows)


class MaskedArray(ArrayRaster):
    """Pixels of which some have no data."""

    has_mask = True

    def __init__(self, array, valid):
        super().__init__(array)
        self.valid = torch.from_numpy(valid)

    def read_mask(self, window):
        y, x, h, w = window
        mask = self.valid[y : y + h, x : x + w]
        return None if mask.all() else mask


def counted(seen):
    def predict(batch):
        seen.extend(batch.windows)
        return convolution(batch)

    return predict


@settings(deadline=None, max_examples=60)
@given(runs(), st.floats(0, 1))
def test_pixels_without_data(run, share):
    """They are marked, cost no prediction, and do not change the others."""
    shape, chosen, rows = run
    rng = np.random.default_rng(0)
    pixels = rng.random(shape, np.float32)
    # Blocks, so that whole windows are empty.
    coarse = rng.random((6, 6)) < share
    valid = coarse.repeat(10, 0).repeat(9, 1)[: shape[0], : shape[1]]
    raster, seen = MaskedArray(pixels, valid), []
    found = stream_rows(
        raster,
        chosen,
        parse_views(None),
        counted(seen),
        outputs=Outputs((0, 3), True),
        rows=rows,
        nodata=255,
    )
    top, maps = join(found)
    _, expected = stream(pixels, chosen, rows=rows)
    kept = torch.from_numpy(valid[slice(*rows)])
    marks = (255, 0, 0)
    for got, full, mark in zip(maps, expected, marks, strict=True):
        # The size of a batch, which windows without data change, matters to
        # the last digit only.
        difference = got[..., kept].int() - full[..., kept].int()
        assert (difference.abs() <= 1).all()
        assert (got[..., ~kept] == mark).all()
    empty = [w for w in seen if raster.valid[slicing(w)].sum() == 0]
    assert len(empty) <= 1


def slicing(window):
    y, x, h, w = window
    return slice(y, y + h), slice(x, x + w)


def test_masks_are_not_read_unless_asked_for():
    raster = MaskedArray(np.zeros((20, 20), np.float32), np.zeros((20, 20)))
    raster.read_mask = None
    seen = []
    rows = stream_rows(
        raster,
        StreamSettings((10, 10), (10, 10)),
        parse_views(None),
        counted(seen),
    )
    assert sum(len(found.labels) for found in rows) == 20
    assert len(seen) == 4
