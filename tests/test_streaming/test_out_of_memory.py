import numpy as np
import pytest
import torch

from mmseg_uhr.rasters import ArrayRaster
from mmseg_uhr.streaming import (
    StreamSettings,
    WindowBatch,
    WindowTooLargeError,
    stream_rows,
)
from mmseg_uhr.streaming.out_of_memory import (
    CarefulPredictor,
    is_out_of_memory,
)
from mmseg_uhr.tiling import BandAccumulator, TilePlan, Window, parse_views

ERRORS = [
    torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate'),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    MemoryError(),
]


def segment(predict, batch_size=8):
    pixels = np.random.default_rng(0).integers(0, 3, (60, 80, 1), np.uint8)
    settings = StreamSettings((16, 16), (12, 12), batch_size)
    rows = stream_rows(
        ArrayRaster(pixels), settings, parse_views(None), predict
    )
    return pixels[..., 0], torch.cat([part.labels for part in rows]).numpy()


def one_hot(batch):
    pixels = torch.stack([views['local'][0] for views in batch.inputs])
    logits = torch.nn.functional.one_hot(pixels.long(), 3)
    return logits.permute(0, 3, 1, 2).float()


@pytest.mark.parametrize('error', ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize('fits', [1, 3, 7])
def test_smaller_batches_give_the_same(error, fits):
    sizes = []

    def predict(batch):
        sizes.append(len(batch.windows))
        if sizes[-1] > fits:
            raise error
        return one_hot(batch)

    expected, found = segment(predict)
    assert np.array_equal(found, expected)
    failed = [size for size in sizes if size > fits]
    # 8, 4, 2, 1: each size fails once, whatever the number of batches.
    assert failed == [s for s in (8, 4, 2) if s > fits]
    assert max(sizes[len(failed) :]) == (8 >> len(failed))


def test_one_window_that_does_not_fit():
    def predict(batch):
        raise ERRORS[0]

    with pytest.raises(WindowTooLargeError, match='16 x 16.*crop_size'):
        segment(predict)


def test_windows_are_halved_in_the_middle_of_a_scene():
    """Finished rows stay; what follows is put together of smaller ones."""
    pixels = np.random.default_rng(0).integers(0, 3, (700, 300, 1), np.uint8)
    sizes = []

    def predict(batch):
        window = batch.windows[0]
        # From the third row of windows on, only small ones fit.
        if window.y > 150 and window.h * len(batch.windows) > 70:
            raise ERRORS[0]
        sizes.append((window.h, window.w))
        return one_hot(batch)

    rows = list(
        stream_rows(
            ArrayRaster(pixels),
            StreamSettings((128, 128), (96, 96), 2, blend='hann'),
            parse_views(None),
            predict,
        )
    )
    assert [r.y for r in rows] == sorted(r.y for r in rows)
    found = torch.cat([r.labels for r in rows])
    assert np.array_equal(found, pixels[..., 0])
    assert set(sizes) == {(128, 128), (64, 64)}
    assert sizes == sorted(sizes, reverse=True)


def test_windows_seen_at_a_fixed_size_are_not_halved():
    rows = stream_rows(
        ArrayRaster(np.zeros((300, 300, 1), np.uint8)),
        StreamSettings((128, 128), (96, 96)),
        parse_views(dict(local=dict(size=(64, 64)))),
        lambda batch: (_ for _ in ()).throw(ERRORS[2]),
    )
    with pytest.raises(WindowTooLargeError, match='128 x 128'):
        list(rows)


@pytest.mark.parametrize(
    'crop, stride, smaller',
    [
        ((1024, 512), (683, 256), ((512, 256), (341, 128))),
        ((300, 300), (1, 300), ((128, 128), (1, 128))),
        ((128, 100), (128, 100), None),
    ],
)
def test_smaller_windows_keep_the_share_of_overlap(crop, stride, smaller):
    shrunk = StreamSettings(crop, stride, 4, blend='hann').shrunk()
    if smaller is None:
        assert shrunk is None
    else:
        assert (shrunk.crop_size, shrunk.stride) == smaller
        assert (shrunk.batch_size, shrunk.blend) == (1, 'hann')


def test_the_band_makes_room_before_windows_shrink():
    calls = []

    def predict(batch):
        if not calls:
            raise ERRORS[0]
        return one_hot(batch)

    pixels = torch.zeros(1, 16, 16, dtype=torch.uint8)
    window = Window(0, 0, 16, 16)
    batch = WindowBatch([window], [dict(local=pixels)], [{}])
    careful = CarefulPredictor(predict, lambda: calls.append(1) or True)
    [(found, logits)] = careful(batch)
    assert found == window
    assert logits.shape == (3, 16, 16)
    assert len(calls) == 1


@pytest.mark.gpu
def test_the_band_moves_to_the_host_and_goes_on():
    plan = TilePlan((40, 20), (20, 20), (10, 20))
    bands = BandAccumulator(plan, 'hann'), BandAccumulator(plan, 'hann')
    rows = [[], []]
    for i, window in enumerate(plan):
        logits = torch.rand(3, 20, 20, device='cuda')
        for band, finished in zip(bands, rows, strict=True):
            finished += [s.cpu() for _, s, _ in band.finish(window.y)]
            band.add(logits, window)
        if i == 1:
            assert bands[1].move_to_host()
            assert not bands[1].move_to_host()
    torch.testing.assert_close(torch.cat(rows[0], 1), torch.cat(rows[1], 1))


def test_other_errors_pass():
    def predict(batch):
        raise RuntimeError('shapes differ')

    with pytest.raises(RuntimeError, match='shapes differ'):
        segment(predict)
    assert not is_out_of_memory(ValueError('not enough memory'))


def test_real_allocators_are_understood():
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
