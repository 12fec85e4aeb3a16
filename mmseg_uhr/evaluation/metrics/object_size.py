"""Quality by the size of objects."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...registry import METRICS
from ..ids import Labels
from ..objects import object_counts
from .counting import CountingMetric, ratio


@METRICS.register_module()
class ObjectSizeIoUMetric(CountingMetric):
    """IoU, recall and precision of pixels, by the size of their object.

    An object is a connected component (with diagonals) of one class. Pixels
    of a labelled object belong to the bin of its size. A false positive
    belongs to the bin of the size of the *predicted* object that it is part
    of. So each pixel of a class's union counts in one bin, and

    - recall = rightly predicted pixels / pixels of labelled objects;
    - precision = rightly predicted pixels / pixels of predicted objects, by
      the size of the predicted object;
    - IoU = rightly predicted pixels / (pixels of labelled objects + false
      positives of predicted objects of that size).

    A class without labelled objects of a size has neither IoU nor recall
    there, and is left out of these means; its false positives show in the
    precision. Ignored pixels belong to no object and cut objects.

    Args:
        edges (Sequence[int]): Sizes in pixels that divide the bins; an object
            as large as an edge is in the bin above. Defaults to 32 x 32 and
            96 x 96, COCO's small, medium and large.
        ignore_index (int): Pixels with this label do not count. Defaults to
            255.
        **kwargs: ``protocol=None`` as of ``UHRIoUMetric``,
            ``collect_device='cpu'``, ``prefix=None``.

    Raises:
        ValueError: If the edges do not ascend from 2, or there is no such
            protocol.
    """

    def __init__(
        self,
        edges: Sequence[int] = (32**2, 96**2),
        ignore_index: int = 255,
        **kwargs: Any,
    ) -> None:
        super().__init__(ignore_index=ignore_index, **kwargs)
        edges = tuple(edges)
        whole = all(isinstance(edge, int) for edge in edges)
        if not whole or any(a >= b for a, b in zip((1, *edges), edges)):
            raise ValueError(
                f'edges={edges}: expected ascending sizes in pixels from 2, '
                'e.g. (1024, 9216)'
            )
        self.edges = edges
        self.bins = [f'{a}-{b - 1}px' for a, b in zip((1, *edges), edges)]
        self.bins.append(f'{(1, *edges)[-1]}px_up')

    def counts_shape(self) -> tuple[int, ...]:
        """Return the shape of the counts, (5, C, B)."""
        return 5, len(self.classes), len(self.bins)

    def count(self, pred: Labels, label: Labels) -> np.ndarray:
        """Count the objects of one image.

        Args:
            pred (np.ndarray | Tensor): Predicted class ids (H, W).
            label (np.ndarray | Tensor): Labelled class ids (H, W).

        Returns:
            np.ndarray: ``int64`` (5, C, B), see ``object_counts``.
        """
        return object_counts(
            pred, label, len(self.classes), self.edges, self.ignored
        )

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Compute the scores and print a table of classes for each bin.

        Args:
            results (list[np.ndarray]): Counts of the ranks.

        Returns:
            dict[str, float]: ``mIoU_objects_1-1023px``,
            ``mRecall_objects_1-1023px``, ``mPrecision_objects_1-1023px`` and
            so on, in percent.
        """
        objects, labelled, right, predicted, wrong = sum(results)
        recall = ratio(right, labelled)
        of_classes = {
            'IoU': np.where(labelled, ratio(right, labelled + wrong), np.nan),
            'Recall': recall,
            'Precision': ratio(predicted - wrong, predicted),
        }
        scores = {}
        for i, name in enumerate(self.bins):
            values = {key: of_classes[key][:, i] for key in of_classes}
            self.log_table(
                f'objects of {name.replace("_up", " and more")}:',
                {**values, 'Objects': objects[:, i]},
            )
            for key, value in values.items():
                scores[f'm{key}_objects_{name}'] = self.mean(value)
        self.log_protocol()
        return scores
