"""Counts of pixels near boundaries, in stripes of rows."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from .ids import Labels, Stripe, stripes

_SQUARE = np.ones((3, 3), np.uint8)
# Dilation takes time in proportion to its reach, a box filter does not; they
# cost the same at about this many pixels.
_SMALL = 32
# np.bincount makes 8 bytes of each code; of so many at a time.
_CHUNK = 2**18


def boundary_counts(
    pred: Labels,
    label: Labels,
    num_classes: int,
    widths: Sequence[int],
    ignored: Sequence[int] = (255,),
    rows: int | None = None,
) -> np.ndarray:
    """Count what Boundary IoU (Cheng et al., CVPR 2021) is made of.

    The boundary region of a mask is the mask without its erosion by a square
    of ``2 * width + 1`` pixels; outside the image is outside the mask. Ignored
    pixels are taken out of the masks of label and prediction alike.

    Memory grows with the width of the image and of the boundary, not with the
    height of the image.

    Args:
        pred (np.ndarray | Tensor): Predicted class ids (H, W).
        label (np.ndarray | Tensor): Labelled class ids (H, W).
        num_classes (int): Number of classes C.
        widths (Sequence[int]): Of the boundary region, n of them, pixels.
        ignored (Sequence[int]): Labels of pixels that do not count.
        rows (int, optional): Rows to work on at a time. The result does not
            depend on it.

    Returns:
        np.ndarray: ``int64`` (n, 3, C): pixels in the regions of both masks,
        of the label's, and of the prediction's.

    Raises:
        ValueError: If the shapes differ, or if a pixel that counts has an id
            that is no class.
    """
    order, ascending = _sorted(widths)
    steps = len(ascending)
    counts = np.zeros((steps, 3, num_classes), np.int64)
    for stripe in stripes(
        pred, label, num_classes, ignored, ascending[-1], rows
    ):
        near_pred, near_label = (
            _nearness(ids, ascending, stripe, frame=True)
            for ids in (stripe.pred, stripe.label)
        )
        preds, labels = stripe.pred[stripe.inner], stripe.label[stripe.inner]
        # Where both maps agree, the deeper of the two regions decides.
        both = np.maximum(near_pred, near_label)
        both[preds != labels] = steps
        for i, (ids, nearness) in enumerate(
            ((labels, both), (labels, near_label), (preds, near_pred))
        ):
            found = _tally(
                nearness < steps, (nearness, steps), (ids, num_classes + 1)
            )
            counts[:, i] += found[:, :num_classes]
    return counts.cumsum(0)[order]


def trimap_counts(
    pred: Labels,
    label: Labels,
    num_classes: int,
    widths: Sequence[int],
    ignored: Sequence[int] = (255,),
    rows: int | None = None,
) -> np.ndarray:
    """Count pixels by labelled and predicted class near label boundaries.

    A pixel is within ``width`` of a boundary if the square of
    ``2 * width + 1`` pixels around it holds another label. Ignored pixels are
    another label, the frame of the image is none.

    Args:
        pred (np.ndarray | Tensor): Predicted class ids (H, W).
        label (np.ndarray | Tensor): Labelled class ids (H, W).
        num_classes (int): Number of classes C.
        widths (Sequence[int]): Of the trimap, n of them, pixels.
        ignored (Sequence[int]): Labels of pixels that do not count.
        rows (int, optional): Rows to work on at a time. The result does not
            depend on it.

    Returns:
        np.ndarray: ``int64`` (n, C, C): confusion matrices; rows are labels.

    Raises:
        ValueError: If the shapes differ, or if a pixel that counts has an id
            that is no class.
    """
    order, ascending = _sorted(widths)
    steps = len(ascending)
    counts = np.zeros((steps, num_classes, num_classes), np.int64)
    for stripe in stripes(
        pred, label, num_classes, ignored, ascending[-1], rows
    ):
        nearness = _nearness(stripe.label, ascending, stripe, frame=False)
        preds, labels = stripe.pred[stripe.inner], stripe.label[stripe.inner]
        counts += _tally(
            (nearness < steps) & (labels < num_classes),
            (nearness, steps),
            (labels, num_classes),
            (preds, num_classes),
        )
    return counts.cumsum(0)[order]


def _sorted(widths: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Return where each width is among the ascending ones, and those."""
    order = np.argsort(widths, kind='stable')
    return np.argsort(order), [int(widths[i]) for i in order]


def _nearness(
    ids: np.ndarray, widths: Sequence[int], stripe: Stripe, frame: bool
) -> np.ndarray:
    """Return the first width that reaches each pixel, as its index.

    The nearest pixel of another class lies next to one of the own class, and
    that one is an edge. So the distance to the edges of all classes, plus one,
    is the distance to the nearest other class: one dilation serves all.
    """
    edges = cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, _SQUARE) > 0
    if frame:
        edges[:, 0] = edges[:, -1] = True
        edges[0] |= stripe.first
        edges[-1] |= stripe.last
    edges = edges.view(np.uint8)
    nearness = np.full(edges[stripe.inner].shape, len(widths), np.uint8)
    reached = 1
    for width in widths:
        if width > reached:
            edges = _dilate(edges, width - reached)
            reached = width
        nearness -= edges[stripe.inner]
    return nearness


def _dilate(mask: np.ndarray, reach: int) -> np.ndarray:
    """Grow a mask of 0 and 1 by a square."""
    if reach <= _SMALL:
        return cv2.dilate(mask, _SQUARE, iterations=reach)
    side = 2 * reach + 1
    sums = cv2.boxFilter(
        mask, -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    return np.minimum(sums, 1, out=sums)


def _tally(kept: np.ndarray, *digits: tuple[np.ndarray, int]) -> np.ndarray:
    """Count combinations of ids below their bases, where a mask is true."""
    bases = [base for _, base in digits]
    size = math.prod(bases)
    # As narrow as they fit, for there may be many.
    codes = np.zeros(np.count_nonzero(kept), np.min_scalar_type(size))
    for ids, base in digits:
        codes *= codes.dtype.type(base)
        codes += ids[kept]
    counts = np.zeros(size, np.int64)
    for i in range(0, len(codes), _CHUNK):
        counts += np.bincount(codes[i : i + _CHUNK], minlength=size)
    return counts.reshape(bases)
