"""Settings of a stream that fit a budget."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from .settings import StreamSettings

_BYTES = {'float32': 4, 'float16': 2}


def band_bytes(
    settings: StreamSettings, shape: tuple[int, int], classes: int
) -> int:
    """Return the size of the sums of logits.

    Args:
        settings (StreamSettings): Their type, and the height of a window.
        shape (tuple[int]): ``(H, W)`` of the scene in pixels.
        classes (int): Channels of the logits.

    Returns:
        int: Bytes.
    """
    size = _BYTES[settings.accumulator]
    return size * classes * min(settings.crop_size[0], shape[0]) * shape[1]


def fit_settings(
    settings: StreamSettings,
    shape: tuple[int, int],
    classes: int,
    window_bytes: Callable[[StreamSettings], int],
    budget: int,
    has_host: bool,
    may_shrink: bool = True,
) -> StreamSettings:
    """Change settings as little as a budget asks for.

    Tried in this order: fewer windows at a time; sums of logits on the host,
    which like the former leaves the result as it is, or, where that is the
    same memory, in float16; windows of half the sides (and so on).

    Args:
        settings (StreamSettings): What is wanted.
        shape (tuple[int]): ``(H, W)`` of the scene in pixels.
        classes (int): Channels of the logits.
        window_bytes (Callable): Bytes of weights and activations for
            settings, without the sums of logits.
        budget (int): Bytes.
        has_host (bool): Whether the device's memory is not the host's.
        may_shrink (bool): Whether windows may be made smaller.

    Returns:
        StreamSettings: Which fit.

    Raises:
        ValueError: If nothing fits; it names the least that would.
    """
    least = None
    wanted: StreamSettings | None = settings
    while wanted is not None:
        # Of two ways to save, slower batches before other sums.
        for way in _sums(wanted, has_host):
            elsewhere = has_host and way.accumulate_on == 'host'
            band = 0 if elsewhere else band_bytes(way, shape, classes)
            batch = way.batch_size
            while batch:
                way = replace(way, batch_size=batch)
                need = window_bytes(way) + band
                if need <= budget:
                    return way
                least = need if least is None else min(least, need)
                batch //= 2
        wanted = wanted.shrunk() if may_shrink else None
    raise ValueError(
        f'budget: {budget / 2**20:.0f} MiB are not enough; the least that '
        f'this model needs for a scene {shape[1]} pixels wide is about '
        f'{-(-least // 2**20)} MiB'
    )


def _sums(
    settings: StreamSettings, has_host: bool
) -> Iterator[StreamSettings]:
    """Yield ways to keep the sums of logits, the best first."""
    yield settings
    if has_host and settings.accumulate_on != 'host':
        yield replace(settings, accumulate_on='host')
    elif not has_host and settings.accumulator != 'float16':
        yield replace(settings, accumulator='float16')
