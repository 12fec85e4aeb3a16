"""Counts of pixels by the size of the object they belong to."""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .ids import Labels, stripes


def object_counts(
    pred: Labels,
    label: Labels,
    num_classes: int,
    edges: Sequence[int],
    ignored: Sequence[int] = (255,),
    rows: int | None = None,
) -> np.ndarray:
    """Count pixels by class and by the size of their object.

    An object is a connected component (with diagonals) of the pixels of one
    class, in the whole image. Ignored pixels belong to no object, neither of
    the labels nor of the prediction.

    Memory grows with the width of the image, not with its height: an object is
    forgotten once no row can add to it.

    Args:
        pred (np.ndarray | Tensor): Predicted class ids (H, W).
        label (np.ndarray | Tensor): Labelled class ids (H, W).
        num_classes (int): Number of classes C.
        edges (Sequence[int]): Ascending sizes in pixels that divide B bins;
            an object as large as an edge is in the bin above.
        ignored (Sequence[int]): Labels of pixels that do not count.
        rows (int, optional): Rows to work on at a time. The result does not
            depend on it.

    Returns:
        np.ndarray: ``int64`` (5, C, B). By size of the labelled object:
        objects, their pixels, those predicted rightly; by size of the
        predicted object: its pixels, those predicted wrongly.

    Raises:
        ValueError: If the shapes differ, or if a pixel that counts has an id
            that is no class.
    """
    labelled = _Objects(num_classes, edges, pred.shape[-1])
    predicted = _Objects(num_classes, edges, pred.shape[-1])
    for stripe in stripes(pred, label, num_classes, ignored, rows=rows):
        right = stripe.pred == stripe.label
        labelled.add(stripe.label, right)
        predicted.add(stripe.pred, ~right)
    return np.concatenate((labelled.finish(), predicted.finish()[1:]))


class _Objects:
    """The objects of a map that comes in stripes, counted when complete.

    Columns of the table of open objects are class, pixels, marked pixels.
    """

    def __init__(
        self, num_classes: int, edges: Sequence[int], width: int
    ) -> None:
        self._num_classes = num_classes
        self._edges = edges
        self._counts = np.zeros((3, num_classes, len(edges) + 1), np.int64)
        self._open = np.zeros((0, 3), np.int64)
        # Row of that table, plus one, for each pixel of the last row.
        self._seam = np.zeros(width, np.int64)

    def add(self, ids: np.ndarray, marked: np.ndarray) -> None:
        """Continue with the next rows of ids and marks (h, W)."""
        numbers, parts = _components(ids, marked, self._num_classes)
        num_open = len(self._open)
        parts = np.concatenate((self._open, parts))
        count, groups = self._join(numbers[0], parts)
        table = np.zeros((count, 3), np.int64)
        table[groups, 0] = parts[:, 0]
        np.add.at(table[:, 1:], groups, parts[:, 1:])
        # Only what reaches the last row can still grow.
        last = numbers[-1]
        reaches = last > 0
        still_open, places = np.unique(
            groups[last[reaches] - 1 + num_open], return_inverse=True
        )
        complete = np.ones(count, bool)
        complete[still_open] = False
        self._count(table[complete])
        self._open = table[still_open]
        self._seam = np.zeros(len(last), np.int64)
        self._seam[reaches] = places + 1

    def finish(self) -> np.ndarray:
        """Return objects, pixels and marked pixels, (3, C, B)."""
        self._count(self._open)
        return self._counts

    def _join(
        self, first: np.ndarray, parts: np.ndarray
    ) -> tuple[int, np.ndarray]:
        """Group the parts that touch across the seam."""
        width, num_open = len(first), len(self._open)
        pairs = []
        for shift in (-1, 0, 1):
            above = self._seam[max(shift, 0) : width + min(shift, 0)]
            below = first[max(-shift, 0) : width + min(-shift, 0)]
            touch = (above > 0) & (below > 0)
            above, below = above[touch] - 1, below[touch] - 1 + num_open
            same = parts[above, 0] == parts[below, 0]
            pairs.append((above[same], below[same]))
        above, below = (np.concatenate(side) for side in zip(*pairs))
        links = coo_matrix(
            (np.ones(len(above), bool), (above, below)), shape=2 * [len(parts)]
        )
        return connected_components(links, directed=False)

    def _count(self, table: np.ndarray) -> None:
        """Add complete objects to the counts."""
        classes, sizes, marked = table.T
        bins = np.searchsorted(self._edges, sizes, side='right')
        for counts, amount in zip(self._counts, (1, sizes, marked)):
            np.add.at(counts, (classes, bins), amount)


def _components(
    ids: np.ndarray, marked: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Number the components of a stripe from 1, and tabulate them."""
    numbers = np.zeros(ids.shape, np.int32)
    classes: list[int] = []
    present = np.bincount(ids.reshape(-1), minlength=num_classes)
    for i in np.flatnonzero(present[:num_classes]).tolist():
        mask = ids == i
        count, own = cv2.connectedComponents(
            mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S
        )
        np.add(own, len(classes), out=numbers, where=mask)
        classes += (count - 1) * [i]
    size = len(classes) + 1
    table = np.empty((size - 1, 3), np.int64)
    table[:, 0] = classes
    table[:, 1] = np.bincount(numbers.reshape(-1), minlength=size)[1:]
    table[:, 2] = np.bincount(numbers[marked], minlength=size)[1:]
    return numbers, table
