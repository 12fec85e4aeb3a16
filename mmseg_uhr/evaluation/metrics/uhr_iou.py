"""Stock scores from exact counts, by named protocols."""

import logging
from collections.abc import Sequence
from typing import Any, Union

import numpy as np
import torch
from mmengine.logging import MMLogger, print_log
from mmseg.evaluation import IoUMetric

from ...registry import METRICS
from ..confusion import check_confusion_path, confusion_matrix, save_confusion
from ..ids import Labels
from .counting import CountingMetric


@METRICS.register_module()
class UHRIoUMetric(CountingMetric, IoUMetric):
    """Stock ``IoUMetric`` that counts exactly, whatever the image size.

    Stock counts with ``torch.histc`` in float32, which cannot count beyond
    2**24: a class with more pixels in an image gets wrong scores. This metric
    keeps one ``int64`` confusion matrix per rank, takes ``uint8`` label maps
    as they are, and computes and reports the scores as stock does.

    Unlike stock it refuses class ids that are no class: stock drops them from
    one side of the union and reports a score nevertheless.

    Args:
        ignore_index (int): Pixels with this label do not count. Defaults to
            255.
        *args: Further ones of stock.
        protocol (str | dict, optional): What the means are of: a name of
            ``mmseg_uhr.evaluation.PROTOCOLS``, e.g. ``'deepglobe-6'``, or
            fields of a ``Protocol``, e.g. ``dict(left_out=['background'])``.
            Defaults to stock's means, of all classes.
        confusion_file (str, optional): ``.csv`` or ``.npy`` to write the
            confusion matrix to, before the protocol drops labels. Relative to
            the current folder.
        **kwargs: As stock: ``iou_metrics=['mIoU']`` (also ``'mDice'``,
            ``'mFscore'``), ``nan_to_num=None``, ``beta=1``,
            ``collect_device='cpu'``, ``output_dir=None``,
            ``format_only=False``, ``prefix=None``.

    Raises:
        ValueError: If there is no such protocol or the confusion file has
            another suffix.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        *args: Any,
        protocol: Union[str, dict, None] = None,
        confusion_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        if confusion_file is not None:
            check_confusion_path(confusion_file)
        self.confusion_file = confusion_file
        super().__init__(
            ignore_index,
            *args,
            ignore_index=ignore_index,
            protocol=protocol,
            **kwargs,
        )

    def counts_shape(self) -> tuple[int, ...]:
        """Return the shape of the confusion matrix, (C, C)."""
        return 2 * (len(self.classes),)

    def count(self, pred: Labels, label: Labels) -> np.ndarray:
        """Return the confusion matrix of one image.

        Args:
            pred (np.ndarray | Tensor): Predicted class ids (H, W).
            label (np.ndarray | Tensor): Labelled class ids (H, W).

        Returns:
            np.ndarray: ``int64`` (C, C); rows are labels.
        """
        return confusion_matrix(
            pred, label, len(self.classes), self.ignore_index
        )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count a batch of images, and write predictions if asked to.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): With ``pred_sem_seg`` and, unless
                ``format_only``, ``gt_sem_seg``; the ``data`` of both are
                class ids (1, H, W).

        Raises:
            ValueError: If the label map is missing, if its shape is not the
                prediction's, or if an id is no class.
        """
        if not self.format_only:
            super().process(data_batch, data_samples)
        if self.output_dir is not None:
            self._save(data_batch, data_samples)

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Compute the scores and print the table of classes.

        Args:
            results (list[np.ndarray]): Confusion matrices ``int64`` (C, C) of
                the ranks; rows are labels.

        Returns:
            dict[str, float]: Scores in percent by stock's names.
        """
        confusion = sum(results)
        if self.confusion_file is not None and not self.format_only:
            self._save_confusion(confusion)
        dropped = list(self.ignored[1:])
        confusion[dropped] = 0
        intersect = confusion.diagonal()
        label, pred = confusion.sum(1), confusion.sum(0)
        areas = (intersect, label + pred - intersect, pred, label)
        # Stock divides tensors; float64 holds counts up to 2**53 exactly.
        areas = tuple(torch.from_numpy(a.astype(np.float64)) for a in areas)
        # Past our base, to stock.
        scores = IoUMetric.compute_metrics(self, [areas])
        if self.format_only:
            return scores
        self.log_protocol()
        if self.protocol is None:
            return scores
        of_classes = self.total_area_to_metrics(
            *areas, self.metrics, self.nan_to_num, self.beta
        )
        for name, values in of_classes.items():
            if name != 'aAcc':
                scores[f'm{name}'] = self.mean(values)
        return scores

    def _save_confusion(self, confusion: np.ndarray) -> None:
        """Write the confusion matrix; the scores outlive a full disk."""
        try:
            save_confusion(self.confusion_file, confusion, self.classes)
        except OSError as error:
            print_log(
                f'confusion_file={self.confusion_file!r} was not written: '
                f'{error}',
                MMLogger.get_current_instance(),
                logging.ERROR,
            )

    def _save(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write predictions; stock does just that if ``format_only``."""
        format_only, self.format_only = self.format_only, True
        try:
            IoUMetric.process(self, data_batch, data_samples)
        finally:
            self.format_only = format_only
