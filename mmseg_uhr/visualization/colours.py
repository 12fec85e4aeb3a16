"""Class ids as colours."""

import colorsys
from collections.abc import Sequence

import numpy as np

#: RGB of ignored pixels and of ids without a colour.
IGNORE_COLOUR = (128, 128, 128)
# Steps of this angle keep neighbouring hues apart for any number of classes.
_GOLDEN_ANGLE = 0.618034


def colour_labels(
    labels: np.ndarray, palette: Sequence[Sequence[int]] | None = None
) -> np.ndarray:
    """Colour class ids.

    Args:
        labels (np.ndarray): Integer ids (h, w).
        palette (Sequence[Sequence[int]], optional): RGB per class. Without
            one, hues are spread evenly.

    Returns:
        np.ndarray: RGB ``uint8`` (h, w, 3); ids beyond the palette are grey.
    """
    size = max(256, int(labels.max(initial=0)) + 1)
    table = np.empty((size, 3), np.uint8)
    table[:] = IGNORE_COLOUR
    if palette is None:
        hues = [i * _GOLDEN_ANGLE % 1 for i in range(255)]
        palette = [
            [round(255 * c) for c in colorsys.hsv_to_rgb(h, 0.7, 0.9)]
            for h in hues
        ]
    colours = np.asarray(palette, np.uint8).reshape(-1, 3)
    table[: len(colours)] = colours
    return table[labels]


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Make a picture of an image as data loaders deliver it.

    Args:
        pixels (np.ndarray): Blue, green, red (h, w, >= 3), or grey as the
            first band (h, w, < 3); other types than ``uint8`` are stretched
            to what they hold.

    Returns:
        np.ndarray: RGB ``uint8`` (h, w, 3).
    """
    bands = pixels[..., 2::-1] if pixels.shape[2] >= 3 else pixels[..., :1]
    if bands.dtype != np.uint8:
        bands = np.nan_to_num(bands.astype(np.float32))
        low, high = bands.min(), bands.max()
        bands = (255 * (bands - low) / max(high - low, 1e-12)).astype(np.uint8)
    return np.broadcast_to(bands, (*bands.shape[:2], 3))


def fit_size(shape: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Shrink a shape so that its longest side fits.

    Args:
        shape (tuple[int]): ``(H, W)`` in pixels.
        max_side (int): Bound on the longest side in pixels.

    Returns:
        tuple[int]: ``(h, w)``, at least 1 pixel each, never larger.
    """
    scale = min(1.0, max_side / max(shape))
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)
