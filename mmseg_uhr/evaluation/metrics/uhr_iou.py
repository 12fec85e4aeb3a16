"""Stock scores from exact counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmseg.evaluation import IoUMetric

from ...registry import METRICS
from ..confusion import Labels, confusion_matrix


@METRICS.register_module()
class UHRIoUMetric(IoUMetric):
    """Stock ``IoUMetric`` that counts exactly, whatever the image size.

    Stock counts with ``torch.histc`` in float32, which cannot count beyond
    2**24: a class with more pixels in an image gets wrong scores. This metric
    keeps one ``int64`` confusion matrix per rank, takes ``uint8`` label maps
    as they are, and computes and reports the scores as stock does.

    Unlike stock it refuses class ids that are no class: stock drops them from
    one side of the union and reports a score nevertheless.

    Args:
        *args: As stock.
        **kwargs: As stock: ``ignore_index=255``, ``iou_metrics=['mIoU']``
            (also ``'mDice'``, ``'mFscore'``), ``nan_to_num=None``, ``beta=1``,
            ``collect_device='cpu'``, ``output_dir=None``,
            ``format_only=False``, ``prefix=None``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reset()

    def _reset(self) -> None:
        """Forget all images."""
        # The latest image may turn out to be padding of the sampler.
        self._earlier: np.ndarray | int = 0
        self._latest: np.ndarray | int = 0
        self._num_images = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count a batch of images.

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
            for sample in data_samples:
                self._earlier = self._earlier + self._latest
                self._latest = self._count(sample)
                self._num_images += 1
        if self.output_dir is not None:
            self._save(data_batch, data_samples)

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the scores of all ranks' images.

        The sampler gives every rank equally many images and repeats the
        first ones for that. Image ``i`` of rank ``r`` of ``W`` is number
        ``i * W + r`` of the data set, so at most a rank's latest image is
        such a repetition; it is left out.

        Args:
            size (int): Number of images in the data set.

        Returns:
            dict[str, float]: Scores in percent by stock's names.

        Raises:
            ValueError: If this rank saw more images than the sampler's
                padding explains.
        """
        rank, world_size = get_dist_info()
        number = (self._num_images - 1) * world_size + rank
        if self._num_images and number - world_size >= size:
            raise ValueError(
                f'{self._num_images} images were processed on rank {rank} of '
                f'{world_size} for a data set of {size}; expected at most one '
                'image more than its share. Process each image once and '
                'evaluate with the number of images'
            )
        num_classes = len(self.dataset_meta['classes'])
        confusion = np.zeros((num_classes, num_classes), np.int64)
        confusion += self._earlier
        if number < size:
            confusion += self._latest
        self._reset()
        self.results = [confusion]
        return super().evaluate(world_size)

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Compute the scores and print the table of classes.

        Args:
            results (list[np.ndarray]): Confusion matrices ``int64`` (C, C) of
                the ranks; rows are labels.

        Returns:
            dict[str, float]: Scores in percent by stock's names.
        """
        confusion = sum(results)
        intersect = confusion.diagonal()
        label, pred = confusion.sum(1), confusion.sum(0)
        areas = (intersect, label + pred - intersect, pred, label)
        # Stock divides tensors; float64 holds counts up to 2**53 exactly.
        areas = tuple(torch.from_numpy(a.astype(np.float64)) for a in areas)
        return super().compute_metrics([areas])

    def _count(self, sample: dict) -> np.ndarray:
        """Return the confusion matrix of one image."""
        files = [sample.get(key) for key in ('seg_map_path', 'img_path')]
        name = ' of image '.join(str(f) for f in files if f) or 'label map'
        if 'gt_sem_seg' not in sample:
            raise ValueError(
                f'{name}: the sample has no gt_sem_seg to score against; '
                'load labels in the pipeline, or set format_only=True and '
                'output_dir to save predictions without scores'
            )
        pred, label = (
            _as_map(sample[key]['data'])
            for key in ('pred_sem_seg', 'gt_sem_seg')
        )
        num_classes = len(self.dataset_meta['classes'])
        try:
            return confusion_matrix(
                pred, label, num_classes, self.ignore_index
            )
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from None

    def _save(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write predictions; stock does just that if ``format_only``."""
        format_only, self.format_only = self.format_only, True
        try:
            super().process(data_batch, data_samples)
        finally:
            self.format_only = format_only


def _as_map(data: Labels) -> Labels:
    """Drop the leading axes of length 1 of class ids (1, H, W)."""
    while data.ndim > 2 and data.shape[0] == 1:
        data = data[0]
    return data
