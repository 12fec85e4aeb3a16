import numpy as np
import pytest
import torch

from mmseg_uhr.rasters import ArrayRaster
from mmseg_uhr.streaming import (
    StreamSettings,
    WindowTooLargeError,
    stream_labels,
)
from mmseg_uhr.streaming.out_of_memory import is_out_of_memory
from mmseg_uhr.tiling import parse_views

ERRORS = [
    torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate'),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    MemoryError(),
]


def segment(predict, batch_size=8):
    pixels = np.random.default_rng(0).integers(0, 3, (60, 80, 1), np.uint8)
    settings = StreamSettings((16, 16), (12, 12), batch_size)
    rows = stream_labels(
        ArrayRaster(pixels), settings, parse_views(None), predict
    )
    return pixels[..., 0], torch.cat([part for _, part in rows]).numpy()


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
