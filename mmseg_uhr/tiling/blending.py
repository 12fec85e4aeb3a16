"""How much each pixel of a window counts where windows overlap."""

from importlib import import_module
from types import ModuleType

from .arrays import ArrayLike

BLENDS = ('uniform', 'gaussian', 'linear', 'hann', 'centre')
# Standard deviation as a share of the window's side, and the floor that keeps
# the rim of the scene, seen by one window only, well-conditioned: both of the
# size of those in nnU-Net (Isensee et al., Nature Methods 2021).
_SIGMA = 1 / 8
_FLOOR = 1e-3


def blend_weights(
    blend: str, size: tuple[int, int], module: ModuleType | None = None
) -> ArrayLike | None:
    """Return the weights of a window's pixels.

    Args:
        blend (str): ``'uniform'`` (as stock sliding windows), or one that
            trusts the centre of a window more than its rim and so hides
            seams: ``'gaussian'``, ``'linear'`` (a ramp from the rim),
            ``'hann'`` (a raised cosine). ``'centre'`` weighs all alike, too:
            there each pixel takes the window whose centre is nearest, see
            :meth:`~mmseg_uhr.tiling.TilePlan.core`.
        size (tuple[int]): ``(h, w)`` of a window in pixels.
        module (ModuleType, optional): ``numpy`` or ``torch``. Defaults to the
            latter.

    Returns:
        Tensor | np.ndarray | None: Shape (h, w), positive, at most 1; None
        means all 1.

    Raises:
        ValueError: If the name is unknown.
    """
    profiles = blend_profiles(blend, size, module or import_module('torch'))
    if profiles is None:
        return None
    return profiles[0][:, None] * profiles[1]


def blend_profiles(
    blend: str, size: tuple[int, int], module: ModuleType
) -> tuple[ArrayLike, ArrayLike] | None:
    """Return the factors of :func:`blend_weights`.

    Args:
        blend (str): As there.
        size (tuple[int]): ``(h, w)`` of a window in pixels.
        module (ModuleType): ``numpy`` or ``torch``, whose type is wanted.

    Returns:
        tuple[ArrayLike] | None: Weights of the rows (h) and of the columns
        (w); None means all 1.

    Raises:
        ValueError: If the name is unknown.
    """
    if blend not in BLENDS:
        raise ValueError(f'blend {blend!r}: expected one of {BLENDS}')
    if blend in ('uniform', 'centre'):
        return None
    return _profile(blend, size[0], module), _profile(blend, size[1], module)


def _profile(blend: str, length: int, module: ModuleType) -> ArrayLike:
    """Weights along one side of a window, symmetric and at most 1.

    The floor is that of a side, not of the product: rows at the rim of the
    scene would else weigh all columns alike.
    """
    # From the centre, in window sides: -1/2 to 1/2.
    offset = module.arange(length, dtype=module.float32) + 0.5
    offset = offset / length - 0.5
    if blend == 'gaussian':
        profile = module.exp(-0.5 * (offset / _SIGMA) ** 2)
    elif blend == 'linear':
        profile = 1 - 2 * module.abs(offset)
    else:
        profile = module.cos(module.pi * offset) ** 2
    return module.clip(profile / profile.max(), _FLOOR, None)
