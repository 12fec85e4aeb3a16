"""Exact counts of which class was predicted where."""

from typing import Union

import numpy as np
from torch import Tensor

Labels = Union[np.ndarray, Tensor]

# Strips of this many pixels stay in the cache and cost a few MiB.
_STRIP_PIXELS = 2**18
# Ids named in an error message.
_MAX_NAMED = 10


def confusion_matrix(
    pred: Labels, label: Labels, num_classes: int, ignore_index: int = 255
) -> np.ndarray:
    """Count pixels by labelled and predicted class.

    Counts in ``int64``, in strips of rows, so that any number of pixels is
    counted exactly at a few MiB of extra memory.

    Args:
        pred (np.ndarray | Tensor): Predicted class ids (H, W), of any integer
            type, or whole numbers in a float type.
        label (np.ndarray | Tensor): Labelled class ids (H, W), likewise.
        num_classes (int): Number of classes C.
        ignore_index (int): Pixels with this label do not count.

    Returns:
        np.ndarray: ``int64`` (C, C); rows are labels, columns predictions.

    Raises:
        ValueError: If the shapes differ, or if a pixel that counts has an id
            that is no class.
    """
    if pred.ndim != 2 or tuple(pred.shape) != tuple(label.shape):
        raise ValueError(
            f'the prediction has shape {tuple(pred.shape)} and the label map '
            f'{tuple(label.shape)}; both must have the same (height, width)'
        )
    # Codes of class pairs must not overflow the ids' own type.
    code_type = np.result_type(
        np.uint16, np.min_scalar_type(num_classes**2 - 1)
    )
    counts = np.zeros(num_classes**2, np.int64)
    rows = max(_STRIP_PIXELS // max(pred.shape[1], 1), 1)
    for y in range(0, pred.shape[0], rows):
        labels = _integers(label[y : y + rows])
        counted = labels != ignore_index
        labels = labels[counted]
        preds = _integers(pred[y : y + rows])[counted]
        _check(
            labels,
            num_classes,
            'label',
            f'and pixels of ignore_index={ignore_index} do not count; set '
            'ignore_index of the metric and of the data set, or map the '
            'labels with label_map or reduce_zero_label of the data set',
        )
        _check(
            preds,
            num_classes,
            'predicted',
            'as many as the model should have; set num_classes of its '
            'decode_head or metainfo.classes of the data set',
        )
        codes = labels.astype(code_type)
        codes *= code_type.type(num_classes)
        codes += preds.astype(code_type)
        counts += np.bincount(codes, minlength=len(counts))
    return counts.reshape(num_classes, num_classes)


def _integers(ids: Labels) -> np.ndarray:
    """Return ids as an integer array on the host."""
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
