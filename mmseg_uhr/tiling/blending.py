"""How much each pixel of a window counts where windows overlap."""

import torch
from torch import Tensor

BLENDS = ('uniform', 'gaussian')
# Standard deviation as a share of the window's side, and the floor that keeps
# the corners of the scene, seen by one window only, well-conditioned: both as
# in nnU-Net (Isensee et al., Nature Methods 2021).
_SIGMA = 1 / 8
_FLOOR = 1e-3


def blend_weights(blend: str, size: tuple[int, int]) -> Tensor | None:
    """Return the weights of a window's pixels.

    Args:
        blend (str): ``'uniform'`` (as stock sliding windows) or
            ``'gaussian'``, which trusts the centre of a window more than its
            rim and so hides seams.
        size (tuple[int]): ``(h, w)`` of a window in pixels.

    Returns:
        Tensor | None: Shape (h, w), positive, at most 1; None means all 1.

    Raises:
        ValueError: If the name is unknown.
    """
    if blend == 'uniform':
        return None
    if blend != 'gaussian':
        raise ValueError(f'blend {blend!r}: expected one of {BLENDS}')
    profiles = []
    for length in size:
        offset = torch.arange(length, dtype=torch.float32) - (length - 1) / 2
        profiles.append(torch.exp(-0.5 * (offset / (_SIGMA * length)) ** 2))
    weights = profiles[0][:, None] * profiles[1][None, :]
    return (weights / weights.max()).clamp_min(_FLOOR)
