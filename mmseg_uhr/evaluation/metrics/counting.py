"""What metrics that add up counts have in common."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Union

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from prettytable import PrettyTable

from ..ids import Labels
from ..protocols import as_protocol, others_for


class CountingMetric(BaseMetric):
    """Base of metrics whose scores come from sums of ``int64`` counts.

    Keeps one array per rank, whatever the number and size of the images, and
    adds the ranks' arrays exactly. A subclass counts one image
    (:meth:`count`), tells the shape of the counts (:meth:`counts_shape`), and
    turns their sum into scores (``compute_metrics``).

    Args:
        *args: Of the next base.
        ignore_index (int): Pixels with this label do not count. Defaults to
            255.
        protocol (str | dict, optional): Which classes make the means and
            which labels are dropped: a name of
            ``mmseg_uhr.evaluation.PROTOCOLS``, or fields of a ``Protocol``.
            Defaults to all classes and no label.
        **kwargs: Of the next base: ``collect_device='cpu'``, ``prefix=None``.

    Raises:
        ValueError: If there is no such protocol.
    """

    def __init__(
        self,
        *args: Any,
        ignore_index: int = 255,
        protocol: Union[str, dict, None] = None,
        **kwargs: Any,
    ) -> None:
        self.protocol = as_protocol(protocol)
        super().__init__(*args, **kwargs)
        self.ignore_index = ignore_index
        self._reset()

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Take the data set's classes, and refuse those of another protocol.

        This happens when the loop is built, before hours of prediction.
        """
        if self.protocol is not None:
            self.protocol.check((dataset_meta or {}).get('classes') or ())
        self._dataset_meta = dataset_meta

    @abstractmethod
    def count(self, pred: Labels, label: Labels) -> np.ndarray:
        """Count one image.

        Args:
            pred (np.ndarray | Tensor): Predicted class ids (H, W).
            label (np.ndarray | Tensor): Labelled class ids (H, W).

        Returns:
            np.ndarray: ``int64`` counts of the shape of all images' counts.
        """

    @abstractmethod
    def counts_shape(self) -> tuple[int, ...]:
        """Return the shape of the counts."""

    @property
    def classes(self) -> Sequence[str]:
        """Sequence[str]: Names of the data set's classes."""
        return self.dataset_meta['classes']

    @property
    def ignored(self) -> tuple[int, ...]:
        """tuple[int, ...]: Labels of pixels that do not count."""
        if self.protocol is None:
            return (self.ignore_index,)
        return (self.ignore_index, *self.protocol.ids('dropped', self.classes))

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count a batch of images.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): With ``pred_sem_seg`` and
                ``gt_sem_seg``; the ``data`` of both are class ids (1, H, W).

        Raises:
            ValueError: If the label map is missing, if its shape is not the
                prediction's, or if an id is no class.
        """
        for sample in data_samples:
            self._earlier = self._earlier + self._latest
            self._latest = self._count_sample(sample)
            self._num_images += 1

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the scores of all ranks' images.

        The sampler gives every rank equally many images and repeats the
        first ones for that. Image ``i`` of rank ``r`` of ``W`` is number
        ``i * W + r`` of the data set, so at most a rank's latest image is
        such a repetition; it is left out.

        Args:
            size (int): Number of images in the data set.

        Returns:
            dict[str, float]: Scores in percent.

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
        counts = np.zeros(self.counts_shape(), np.int64)
        counts += self._earlier
        if number < size:
            counts += self._latest
        self._reset()
        self.results = [counts]
        return super().evaluate(world_size)

    def mean(self, values: np.ndarray) -> float:
        """Average scores over the classes of the protocol.

        Args:
            values (np.ndarray): Scores of all classes (C,); NaN where a class
                has none.

        Returns:
            float: Percent, rounded as stock does; NaN if no class has one.
        """
        if self.protocol is not None:
            values = values[list(self.protocol.mean_ids(self.classes))]
        values = values[~np.isnan(values)]
        return round(100 * float(values.mean()), 2) if len(values) else np.nan

    def log_protocol(self) -> None:
        """Say in the log what the means are of, if that is in question."""
        logger = MMLogger.get_current_instance()
        if self.protocol is not None:
            print_log(self.protocol.describe(self.classes), logger)
        elif others := others_for(self.classes):
            print_log(
                f'no protocol: means over all {len(self.classes)} classes; '
                f'tables of papers may be by {" or ".join(others)}',
                logger,
                logging.WARNING,
            )

    def log_table(
        self, title: str, columns: dict[str, Union[np.ndarray, list]]
    ) -> None:
        """Log a table with a row per class.

        Args:
            title (str): Line above the table.
            columns (dict[str, np.ndarray | list]): Of one value per class;
                floats are scores in 0 .. 1 and printed in percent.
        """
        table = PrettyTable()
        table.add_column('Class', list(self.classes))
        for name, values in columns.items():
            values = np.asarray(values)
            if values.dtype.kind == 'f':
                values = np.round(100 * values, 2)
            table.add_column(name, values.tolist())
        print_log(
            f'{title}\n{table.get_string()}', MMLogger.get_current_instance()
        )

    def _reset(self) -> None:
        """Forget all images."""
        # The latest image may turn out to be padding of the sampler.
        self._earlier: np.ndarray | int = 0
        self._latest: np.ndarray | int = 0
        self._num_images = 0

    def _count_sample(self, sample: dict) -> np.ndarray:
        """Count one image; errors name its files."""
        files = [sample.get(key) for key in ('seg_map_path', 'img_path')]
        name = ' of image '.join(str(f) for f in files if f) or 'label map'
        if 'gt_sem_seg' not in sample:
            raise ValueError(
                f'{name}: the sample has no gt_sem_seg to score against; '
                'load labels in the pipeline, or set format_only=True and '
                'output_dir of UHRIoUMetric, and no other metric, to save '
                'predictions without scores'
            )
        pred, label = (
            _as_map(sample[key]['data'])
            for key in ('pred_sem_seg', 'gt_sem_seg')
        )
        try:
            return self.count(pred, label)
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from None


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide counts.

    Args:
        part (np.ndarray): Counts.
        whole (np.ndarray): Counts of the same shape.

    Returns:
        np.ndarray: ``float64``; NaN where the whole is nothing.
    """
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.where(whole > 0, part / whole, np.nan)


def _as_map(data: Labels) -> Labels:
    """Drop the leading axes of length 1 of class ids (1, H, W)."""
    while data.ndim > 2 and data.shape[0] == 1:
        data = data[0]
    return data
