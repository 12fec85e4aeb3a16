"""Settings of a stream that fit a budget."""

from collections.abc import Callable
from dataclasses import replace

from .settings import StreamSettings

_BYTES = {'float32': 4, 'float16': 2}


def band_bytes(settings: StreamSettings, width: int, classes: int) -> int:
    """Return the size of the sums of logits.

    Args:
        settings (StreamSettings): Their type, and the height of a window.
        width (int): Of the scene in pixels.
        classes (int): Channels of the logits.

    Returns:
        int: Bytes.
    """
    size = _BYTES[settings.accumulator]
    return size * classes * settings.crop_size[0] * width


def fit_settings(
    settings: StreamSettings,
    width: int,
    classes: int,
    window_bytes: Callable[[tuple[int, int], int], int],
    budget: int,
    has_host: bool,
    may_shrink: bool = True,
) -> StreamSettings:
    """Change settings as little as a budget asks for.

    Tried in this order, the first two of which leave the result as it is:
    fewer windows at a time, sums of logits on the host, windows of half the
    sides (and so on).

    Args:
        settings (StreamSettings): What is wanted.
        width (int): Of the scene in pixels.
        classes (int): Channels of the logits.
        window_bytes (Callable): Bytes of weights and activations for a
            window size ``(h, w)`` and a number of windows.
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
        band = band_bytes(wanted, width, classes)
        places = [wanted.accumulate_on]
        if has_host and 'host' not in places:
            places.append('host')
        # Of two ways to save, slower batches before a band across the bus.
        for place in places:
            on_device = 0 if has_host and place == 'host' else band
            batch = wanted.batch_size
            while batch:
                need = window_bytes(wanted.crop_size, batch) + on_device
                if need <= budget:
                    return replace(
                        wanted, batch_size=batch, accumulate_on=place
                    )
                least = need if least is None else min(least, need)
                batch //= 2
        wanted = wanted.shrunk() if may_shrink else None
    raise ValueError(
        f'budget: {budget / 2**20:.0f} MiB are not enough; the least that '
        f'this model needs for a scene {width} pixels wide is about '
        f'{-(-least // 2**20)} MiB'
    )
