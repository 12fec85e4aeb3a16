"""Quality near boundaries."""

from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from ...registry import METRICS
from ..boundaries import boundary_counts, trimap_counts
from ..ids import Labels
from .counting import CountingMetric, ratio


class _WidthsMetric(CountingMetric):
    """A metric of bands of some widths along boundaries."""

    def __init__(
        self,
        widths: Sequence[Union[int, float]],
        ignore_index: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(ignore_index=ignore_index, **kwargs)
        self.widths = {_width_name(width): width for width in widths}
        if not self.widths:
            raise ValueError('widths=(): give at least one, e.g. (2, 4)')

    def pixels(self, shape: Sequence[int]) -> list[int]:
        """Return the widths in the pixels of an image.

        Args:
            shape (Sequence[int]): (H, W) of the image.

        Returns:
            list[int]: At least 1 each.
        """
        diagonal = np.hypot(*shape)
        return [
            width
            if isinstance(width, int)
            else max(round(width * float(diagonal)), 1)
            for width in self.widths.values()
        ]

    def _score(
        self, kind: str, intersect: np.ndarray, union: np.ndarray
    ) -> dict[str, float]:
        """Log and average IoUs (n, C) of the widths."""
        ious = dict(zip(self.widths, ratio(intersect, union)))
        self.log_table(
            f'{kind} IoU:', {f'IoU {name}': iou for name, iou in ious.items()}
        )
        self.log_protocol()
        return {
            f'mIoU_{kind}_{name}': self.mean(iou) for name, iou in ious.items()
        }


@METRICS.register_module()
class BoundaryIoUMetric(_WidthsMetric):
    """Boundary IoU (Cheng et al., CVPR 2021) of each class.

    Intersection over union of the boundary regions of labelled and predicted
    mask: what erosion by the width takes away from them; the frame of the
    image bounds the masks. Pixels add up over all images. Ignored pixels are
    taken out of both masks, which they bound as the frame does.

    Args:
        widths (Sequence[int | float]): Of the regions: pixels, or shares of
            the image's diagonal. Defaults to the paper's 2 %.
        ignore_index (int): Pixels with this label do not count. Defaults to
            255.
        **kwargs: ``protocol=None`` as of ``UHRIoUMetric``,
            ``collect_device='cpu'``, ``prefix=None``.

    Raises:
        ValueError: If a width is no width, or there is no such protocol.
    """

    def __init__(
        self,
        widths: Sequence[Union[int, float]] = (0.02,),
        ignore_index: int = 255,
        **kwargs: Any,
    ) -> None:
        super().__init__(widths, ignore_index, **kwargs)

    def counts_shape(self) -> tuple[int, ...]:
        """Return the shape of the counts, (n, 3, C)."""
        return len(self.widths), 3, len(self.classes)

    def count(self, pred: Labels, label: Labels) -> np.ndarray:
        """Count the boundary regions of one image.

        Args:
            pred (np.ndarray | Tensor): Predicted class ids (H, W).
            label (np.ndarray | Tensor): Labelled class ids (H, W).

        Returns:
            np.ndarray: ``int64`` (n, 3, C): intersections, labels,
            predictions.
        """
        return boundary_counts(
            pred,
            label,
            len(self.classes),
            self.pixels(label.shape),
            self.ignored,
        )

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Compute the scores and print the table of classes.

        Args:
            results (list[np.ndarray]): Counts of the ranks.

        Returns:
            dict[str, float]: ``mIoU_boundary_2px`` or ``mIoU_boundary_2pct``
            and so on, in percent.
        """
        intersect, label, pred = sum(results).swapaxes(0, 1)
        return self._score('boundary', intersect, label + pred - intersect)


@METRICS.register_module()
class TrimapIoUMetric(_WidthsMetric):
    """IoU of the pixels within some distance of a boundary of the labels.

    The distance is that of squares: within 1 pixel is what touches another
    label, diagonally too. Ignored pixels do not count, but their outline is a
    boundary; the frame of the image is none. What is predicted elsewhere does
    not matter.

    Args:
        widths (Sequence[int | float]): Distances: pixels, or shares of the
            image's diagonal. Defaults to ``(2, 4, 8, 16)``.
        ignore_index (int): Pixels with this label do not count. Defaults to
            255.
        **kwargs: ``protocol=None`` as of ``UHRIoUMetric``,
            ``collect_device='cpu'``, ``prefix=None``.

    Raises:
        ValueError: If a width is no width, or there is no such protocol.
    """

    def __init__(
        self,
        widths: Sequence[Union[int, float]] = (2, 4, 8, 16),
        ignore_index: int = 255,
        **kwargs: Any,
    ) -> None:
        super().__init__(widths, ignore_index, **kwargs)

    def counts_shape(self) -> tuple[int, ...]:
        """Return the shape of the counts, (n, C, C)."""
        return len(self.widths), len(self.classes), len(self.classes)

    def count(self, pred: Labels, label: Labels) -> np.ndarray:
        """Return the confusion matrices of one image near boundaries.

        Args:
            pred (np.ndarray | Tensor): Predicted class ids (H, W).
            label (np.ndarray | Tensor): Labelled class ids (H, W).

        Returns:
            np.ndarray: ``int64`` (n, C, C); rows are labels.
        """
        return trimap_counts(
            pred,
            label,
            len(self.classes),
            self.pixels(label.shape),
            self.ignored,
        )

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Compute the scores and print the table of classes.

        Args:
            results (list[np.ndarray]): Confusion matrices of the ranks.

        Returns:
            dict[str, float]: ``mIoU_trimap_2px`` and so on, in percent.
        """
        confusion = sum(results)
        intersect = confusion.diagonal(axis1=1, axis2=2)
        either = confusion.sum(1) + confusion.sum(2)
        return self._score('trimap', intersect, either - intersect)


def _width_name(width: Union[int, float]) -> str:
    """Name a width in the keys of scores; no sign that a logger refuses."""
    if isinstance(width, int) and not isinstance(width, bool) and width >= 1:
        return f'{width}px'
    if isinstance(width, float) and 0 < width < 1:
        return f'{100 * width:g}pct'
    raise ValueError(
        f'widths: {width!r} is neither a whole number of pixels from 1 nor a '
        "share of the image's diagonal between 0 and 1, e.g. 0.02"
    )
