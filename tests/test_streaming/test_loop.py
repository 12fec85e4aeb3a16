import numpy as np
import pytest
import torch

from mmseg_uhr.rasters import ArrayRaster, Raster, RasterError
from mmseg_uhr.streaming import (
    StreamSettings,
    decide,
    stream_rows,
)
from mmseg_uhr.tiling import parse_views


class CountingRaster(Raster):
    """A raster of any size that holds no pixels and counts its reads."""

    def __init__(self, shape, fails_at=None):
        self.name, self.shape, self.bands = 'endless', shape, 1
        self.dtype = np.dtype(np.uint8)
        self.reads, self.fails_at = [], fails_at

    def _read(self, window, size, resampling):
        self.reads.append((tuple(window), size))
        if self.fails_at is not None and len(self.reads) > self.fails_at:
            raise RasterError(self.name, 'corrupt block')
        rows = np.arange(window[0], window[0] + window[2]) // 10 % 3
        pixels = rows[:, None, None].astype(np.uint8)
        return pixels.repeat(window[3], 1)[: size[0], : size[1]]


def one_hot(batch):
    """Predict the class that the pixel's value names."""
    pixels = torch.stack([views['local'][0] for views in batch.inputs])
    return torch.nn.functional.one_hot(pixels.long(), 3).permute(0, 3, 1, 2)


def stream(raster, views=None, **settings):
    settings = StreamSettings(**settings)
    return stream_rows(
        raster, settings, parse_views(views), lambda b: one_hot(b).float()
    )


@pytest.mark.parametrize('blend', ['uniform', 'gaussian', 'hann', 'centre'])
@pytest.mark.parametrize('batch_size', [1, 3, 100])
def test_rows_come_once_and_in_order(blend, batch_size):
    raster = CountingRaster((95, 70))
    expected, until = np.arange(95) // 10 % 3, 0
    for y, rows, _, _ in stream(
        raster,
        crop_size=(32, 32),
        stride=(20, 30),
        blend=blend,
        batch_size=batch_size,
    ):
        assert y == until
        assert rows.shape[1] == 70
        assert rows.dtype == torch.uint8
        np.testing.assert_array_equal(rows[:, 0], expected[y : y + len(rows)])
        until += len(rows)
    assert until == 95


def test_nothing_is_read_before_it_is_needed():
    raster = CountingRaster((10**6, 64))
    rows = stream(raster, crop_size=(64, 64), stride=(64, 64))
    next(rows)
    assert len(raster.reads) <= 4
    rows.close()


def test_a_scene_view_is_read_once():
    raster = CountingRaster((128, 128))
    views = dict(scene=dict(region='scene', size=(8, 8)))
    list(stream(raster, views, crop_size=(32, 32), stride=(32, 32)))
    assert sum(size == (8, 8) for _, size in raster.reads) == 1
    # The scene, and its rows in two pieces.
    assert len(raster.reads) == 3


def test_a_failing_read_ends_the_loop_with_its_own_error():
    raster = CountingRaster((320, 32), fails_at=3)
    with pytest.raises(RasterError, match='endless: corrupt block'):
        list(stream(raster, crop_size=(32, 32), stride=(32, 32)))


@pytest.mark.parametrize('classes', [2, 7, 300])
def test_decide_is_argmax(classes):
    logits = torch.randn(classes, 13, 17)
    labels = decide(logits.clone())
    assert labels.dtype == (torch.uint8 if classes <= 256 else torch.int16)
    assert torch.equal(labels.long(), logits.argmax(0))


def test_decide_takes_the_first_of_equals():
    assert decide(torch.ones(4, 2, 2)).sum() == 0


def test_decide_with_one_channel():
    logits = torch.tensor([[[-2.0, 2.0, 0.5]]])
    assert decide(logits, 0.6).tolist() == [[0, 1, 1]]


def test_large_rasters_need_one_band(monkeypatch):
    """The buffers are one window high for a raster of any height."""
    from mmseg_uhr.tiling import band

    allocated = []
    allocate = band.BandAccumulator._allocate

    def spy(self, logits):
        allocate(self, logits)
        allocated.append(tuple(self._sums.shape))

    monkeypatch.setattr(band.BandAccumulator, '_allocate', spy)
    raster = CountingRaster((4000, 50))
    rows = stream(raster, crop_size=(40, 50), stride=(25, 50))
    assert sum(len(r.labels) for r in rows) == 4000
    assert allocated == [(3, 40, 50)]


def test_array_rasters_stream_too():
    pixels = np.random.default_rng(0).integers(0, 3, (50, 60), np.uint8)
    rows = stream(ArrayRaster(pixels), crop_size=(20, 20), stride=(15, 15))
    found = torch.cat([r.labels for r in rows])
    np.testing.assert_array_equal(found, pixels)
