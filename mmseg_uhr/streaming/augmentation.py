"""Several predictions of a window, averaged."""

from collections.abc import Callable, Mapping

from ..tiling import SYMMETRIES, Symmetry
from ..tiling.arrays import ArrayLike, operations_of
from ..tiling.views import LOCAL
from .settings import StreamSettings


def average_predictions(
    views: Mapping[str, ArrayLike],
    settings: StreamSettings,
    predict: Callable[[dict[str, ArrayLike], float, Symmetry], ArrayLike],
) -> ArrayLike:
    """Average the logits of all scales and symmetries.

    Args:
        views (Mapping[str, ArrayLike]): Views (n, C, h, w) by name.
        settings (StreamSettings): With ``tta`` and ``tta_scales``.
        predict (Callable): Logits (n, classes, h', w') of views that have
            been scaled, mirrored and turned; it is told how, too.

    Returns:
        ArrayLike: Logits (n, classes, h, w) of the local view.
    """
    symmetries = SYMMETRIES[settings.tta]
    size = tuple(views[LOCAL].shape[2:])
    count = len(settings.tta_scales) * len(symmetries)
    total = None
    for scale in settings.tta_scales:
        seen = {name: scaled(x, scale) for name, x in views.items()}
        logits = None
        for symmetry in symmetries:
            turned = {name: symmetry.apply(x) for name, x in seen.items()}
            found = symmetry.undo(predict(turned, scale, symmetry))
            if logits is not None:
                logits += found
            elif count > 1:
                # A copy, since a network may hand out what it was given.
                logits = operations_of(found).as_sum(found)
            else:
                logits = found
            # Nothing of it is wanted while the next one is predicted.
            del turned, found
        if tuple(logits.shape[2:]) != size:
            logits = operations_of(logits).resized(logits, size)
        if total is None:
            total = logits
        else:
            total += logits
    if count > 1:
        total /= count
    return total


def scaled(maps: ArrayLike, scale: float) -> ArrayLike:
    """Resize maps by a factor.

    Args:
        maps (ArrayLike): Shape (n, C, h, w).
        scale (float): The factor.

    Returns:
        ArrayLike: Shape (n, C, h', w'); the maps themselves if that is theirs.
    """
    size = tuple(max(round(side * scale), 1) for side in maps.shape[2:])
    if size == tuple(maps.shape[2:]):
        return maps
    return operations_of(maps).resized(maps, size)
