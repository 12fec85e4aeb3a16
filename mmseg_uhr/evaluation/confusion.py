"""Exact counts of which class was predicted where."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..streaming.part_file import replacing
from .ids import (
    Labels,
    as_integers,
    check_labels,
    check_predictions,
    check_shapes,
)

# Strips of this many pixels stay in the cache and cost a few MiB.
_STRIP_PIXELS = 2**18
# Formats of a confusion matrix on disk.
CONFUSION_SUFFIXES = ('.csv', '.npy')


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
    check_shapes(pred, label)
    # Codes of class pairs must not overflow the ids' own type.
    code_type = np.result_type(
        np.uint16, np.min_scalar_type(num_classes**2 - 1)
    )
    counts = np.zeros(num_classes**2, np.int64)
    rows = max(_STRIP_PIXELS // max(pred.shape[1], 1), 1)
    for y in range(0, pred.shape[0], rows):
        labels = as_integers(label[y : y + rows])
        counted = labels != ignore_index
        labels = labels[counted]
        preds = as_integers(pred[y : y + rows])[counted]
        check_labels(labels, num_classes, (ignore_index,))
        check_predictions(preds, num_classes)
        codes = labels.astype(code_type)
        codes *= code_type.type(num_classes)
        codes += preds.astype(code_type)
        counts += np.bincount(codes, minlength=len(counts))
    return counts.reshape(num_classes, num_classes)


def save_confusion(
    path: str | Path, counts: np.ndarray, classes: Sequence[str]
) -> None:
    """Write a confusion matrix to a file, which is there whole or not at all.

    Args:
        path (str | Path): ``.csv``, with the names of the classes, or
            ``.npy``. Folders are made.
        counts (np.ndarray): ``int64`` (C, C); rows are labels.
        classes (Sequence[str]): Names of the C classes.

    Raises:
        ValueError: If the suffix is another.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    check_confusion_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        if path.suffix == '.npy':
            with open(part, 'wb') as file:
                np.save(file, counts)
        else:
            with open(part, 'w', newline='', encoding='utf-8') as file:
                writer = csv.writer(file)
                writer.writerow(['label \\ predicted', *classes])
                for name, row in zip(classes, counts.tolist()):
                    writer.writerow([name, *row])


def check_confusion_path(path: str | Path) -> None:
    """Refuse a file name that tells no known format.

    Args:
        path (str | Path): File of a confusion matrix.

    Raises:
        ValueError: If the suffix is neither ``.csv`` nor ``.npy``.
    """
    if Path(path).suffix not in CONFUSION_SUFFIXES:
        raise ValueError(
            f'confusion_file={str(path)!r}: expected a name that ends in '
            f'{" or ".join(CONFUSION_SUFFIXES)}'
        )
