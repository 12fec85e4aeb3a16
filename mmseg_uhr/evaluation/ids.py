"""Class ids of predictions and label maps: checked, and read by stripes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Union

import numpy as np
from torch import Tensor

Labels = Union[np.ndarray, Tensor]

# Ids named in an error message.
_MAX_NAMED = 10
# Stripes of this many pixels cost a few MiB and hardly more time than larger
# ones.
_STRIPE_PIXELS = 2**19


class Stripe(NamedTuple):
    """Some rows of a prediction and of its label map.

    Ignored pixels have the id ``num_classes`` in both maps, that is, belong to
    no class.

    Attributes:
        pred (np.ndarray): Predicted class ids (h, W), unsigned, with the halo.
        label (np.ndarray): Labelled class ids (h, W), likewise.
        inner (slice): The rows of both that are not halo.
        first (bool): Whether row 0 is the first of the image.
        last (bool): Whether the last row is the last of the image.
    """

    pred: np.ndarray
    label: np.ndarray
    inner: slice
    first: bool
    last: bool


def stripes(
    pred: Labels,
    label: Labels,
    num_classes: int,
    ignored: Sequence[int],
    halo: int = 0,
    rows: int | None = None,
) -> Iterator[Stripe]:
    """Walk over a prediction and its label map from top to bottom.

    Args:
        pred (np.ndarray | Tensor): Predicted class ids (H, W).
        label (np.ndarray | Tensor): Labelled class ids (H, W).
        num_classes (int): Number of classes.
        ignored (Sequence[int]): Labels of pixels that do not count.
        halo (int): Rows to add above and below, inside the image.
        rows (int, optional): Rows of a stripe, without halo. Defaults to some
            that keep memory small.

    Yields:
        Stripe: The next rows.

    Raises:
        ValueError: If the shapes differ, or if a pixel that counts has an id
            that is no class.
    """
    check_shapes(pred, label)
    height, width = pred.shape
    if rows is None:
        # Not much less than the halo, which is read again with each stripe.
        rows = max(_STRIPE_PIXELS // max(width, 1), 2 * halo, 1)
    for y in range(0, height, rows):
        stop = min(y + rows, height)
        top, bottom = max(y - halo, 0), min(stop + halo, height)
        yield Stripe(
            *_clean(pred[top:bottom], label[top:bottom], num_classes, ignored),
            inner=slice(y - top, stop - top),
            first=top == 0,
            last=bottom == height,
        )


def check_shapes(pred: Labels, label: Labels) -> None:
    """Refuse maps of different shape.

    Args:
        pred (np.ndarray | Tensor): Predicted class ids.
        label (np.ndarray | Tensor): Labelled class ids.

    Raises:
        ValueError: If they are not both (H, W).
    """
    if pred.ndim != 2 or tuple(pred.shape) != tuple(label.shape):
        raise ValueError(
            f'the prediction has shape {tuple(pred.shape)} and the label map '
            f'{tuple(label.shape)}; both must have the same (height, width)'
        )


def as_integers(ids: Labels) -> np.ndarray:
    """Return ids as an integer array on the host.

    Args:
        ids (np.ndarray | Tensor): Of an integer type, or whole numbers.

    Returns:
        np.ndarray: The same ids.

    Raises:
        ValueError: If they are not whole numbers.
    """
    if isinstance(ids, Tensor):
        # NumPy has no bfloat16.
        ids = (ids.float() if ids.is_floating_point() else ids).cpu().numpy()
    if ids.dtype.kind in 'iu':
        return ids
    # Stock one-channel heads predict the numbers 0.0 and 1.0.
    whole = ids.astype(np.int64)
    if not np.array_equal(whole, ids):
        raise ValueError(
            f'class ids of type {ids.dtype} are not whole numbers; expected '
            'a map of class ids, not of scores'
        )
    return whole


def check_labels(
    ids: np.ndarray, num_classes: int, ignored: Sequence[int]
) -> None:
    """Refuse labels that are no class.

    Args:
        ids (np.ndarray): Labels of the pixels that count, of any shape.
        num_classes (int): Number of classes.
        ignored (Sequence[int]): Labels of the pixels that do not count.

    Raises:
        ValueError: If there is another id than 0 .. num_classes - 1.
    """
    _check(
        ids,
        num_classes,
        'label',
        f'and pixels of ignore_index={ignored[0]} do not count; set '
        'ignore_index of the metric and of the data set, or map the '
        'labels with label_map or reduce_zero_label of the data set',
    )


def check_predictions(ids: np.ndarray, num_classes: int) -> None:
    """Refuse predictions that are no class.

    Args:
        ids (np.ndarray): Predictions of the pixels that count, of any shape.
        num_classes (int): Number of classes.

    Raises:
        ValueError: If there is another id than 0 .. num_classes - 1.
    """
    _check(
        ids,
        num_classes,
        'predicted',
        'as many as the model should have; set num_classes of its '
        'decode_head or metainfo.classes of the data set',
    )


def _clean(
    pred: Labels, label: Labels, num_classes: int, ignored: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Check some rows and give ignored pixels the id that is no class."""
    preds, labels = as_integers(pred), as_integers(label)
    dropped = labels == ignored[0]
    for other in ignored[1:]:
        dropped |= labels == other
    counted = ~dropped
    check_labels(labels[counted], num_classes, ignored)
    check_predictions(preds[counted], num_classes)
    kind = np.min_scalar_type(num_classes)
    preds, labels = preds.astype(kind), labels.astype(kind)
    preds[dropped] = labels[dropped] = num_classes
    return preds, labels


def _check(ids: np.ndarray, num_classes: int, kind: str, advice: str) -> None:
    """Refuse ids outside 0 .. num_classes - 1."""
    if not ids.size or (ids.min() >= 0 and ids.max() < num_classes):
        return
    strange = np.unique(ids[(ids < 0) | (ids >= num_classes)]).tolist()
    names = ', '.join(str(i) for i in strange[:_MAX_NAMED])
    if len(strange) > _MAX_NAMED:
        names += ', ...'
    raise ValueError(
        f'{kind} ids {names} are outside the {num_classes} classes '
        f'(0-{num_classes - 1}), {advice}'
    )
