import pytest

from mmseg_uhr.streaming import StreamSettings
from mmseg_uhr.streaming.fit import band_bytes, fit_settings

WANTED = StreamSettings((1024, 1024), (768, 768), batch_size=8)
# 7 float32 sums of 1024 rows of 10 000 pixels.
BAND = 4 * 7 * 1024 * 10_000


def window_bytes(settings):
    height, width = settings.crop_size
    return 1000 + settings.batch_size * height * width * 200


def fit(budget, **kwargs):
    kwargs = dict(has_host=True) | kwargs
    return fit_settings(
        WANTED, (5000, 10_000), 7, window_bytes, budget, **kwargs
    )


def need(batch, side=1024, band=BAND):
    settings = StreamSettings((side, side), (side, side), batch)
    return window_bytes(settings) + band


def test_the_band():
    assert band_bytes(WANTED, (5000, 10_000), 7) == BAND
    # A scene may be lower than a window.
    assert band_bytes(WANTED, (256, 10_000), 7) == BAND / 4
    half = StreamSettings((1024, 9), (9, 9), accumulator='float16')
    assert band_bytes(half, (5000, 10_000), 7) == BAND / 2


def test_nothing_changes_where_all_fits():
    assert fit(need(8)) == WANTED


@pytest.mark.parametrize('batch', [4, 2, 1])
def test_batches_are_halved_first(batch):
    fitted = fit(need(2 * batch) - 1)
    assert fitted.batch_size == batch
    assert fitted.accumulate_on == 'device'
    assert fitted.crop_size == WANTED.crop_size


def test_then_sums_move_to_the_host():
    fitted = fit(need(1) - 1)
    assert fitted.accumulate_on == 'host'
    assert fitted.crop_size == WANTED.crop_size
    # What was freed is used.
    assert fitted.batch_size == 2


def test_then_windows_are_halved():
    fitted = fit(need(1, band=0) - 1)
    assert fitted.crop_size == (512, 512)
    assert fitted.stride == (384, 384)


def test_a_cpu_has_no_other_memory():
    fitted = fit(need(1) - 1, has_host=False)
    assert fitted.accumulate_on == 'device'
    assert fitted.accumulator == 'float16'
    assert fitted.crop_size == WANTED.crop_size
    fitted = fit(need(1, band=BAND // 2) - 1, has_host=False)
    assert fitted.accumulator == 'float32'
    assert fitted.crop_size == (512, 512)


def test_nothing_fits():
    least = need(1, 64, band=0)
    assert fit(least).crop_size == (64, 64)
    with pytest.raises(ValueError, match='least that this .* about 1 MiB'):
        fit(least - 1)
    with pytest.raises(ValueError, match='budget: .* not enough'):
        fit(need(1, band=0) - 1, may_shrink=False)
