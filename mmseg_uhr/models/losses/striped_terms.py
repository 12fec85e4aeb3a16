"""Losses of pixels as sums that stripes of rows can add up."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from mmseg.models.losses import CrossEntropyLoss, DiceLoss
from torch import Tensor, nn

from .focal import SoftmaxFocalLoss

# What stock adds to the number of pixels that it divides by.
_EPS = torch.finfo(torch.float32).eps


class Term(ABC):
    """One loss of a batch: sums over stripes, then a function of the sums.

    Args:
        loss (nn.Module): The configured loss.
        labels (Tensor): Class ids of the batch (N, H, W), any integer type.
        classes (int): Channels of the logits.
        ignore_index (int): Class id of ignored pixels.
    """

    def __init__(
        self,
        loss: nn.Module,
        labels: Tensor,
        classes: int,
        ignore_index: int,
    ) -> None:
        self.loss = loss
        self.labels = labels
        self.classes = classes
        self.ignore_index = ignore_index

    @abstractmethod
    def sums(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Compute what a stripe adds.

        Args:
            logits (Tensor): At least float32, (N, C, h, W).
            labels (Tensor): ``int64`` (N, h, W).
            weight (Tensor, optional): Of pixels (N, h, W).

        Returns:
            tuple[Tensor, ...]: Differentiable, each a scalar or one value
            per image (N,).
        """

    @abstractmethod
    def value(self, *sums: Tensor) -> Tensor:
        """Return the loss, a scalar, of the sums over all stripes."""


class CrossEntropyTerm(Term):
    """``CrossEntropyLoss`` of the soft-max."""

    def sums(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, ...]:
        """See :class:`Term`."""
        return (
            self.loss(
                logits,
                labels,
                weight=weight,
                ignore_index=self.ignore_index,
                reduction_override='sum',
            ),
        )

    def value(self, *sums: Tensor) -> Tensor:
        """See :class:`Term`."""
        (total,) = sums
        if self.loss.reduction == 'sum':
            return total
        return total / (self._count(total) + _EPS)

    def _count(self, like: Tensor) -> Tensor | int:
        """Return the pixels, weighted by class if the loss is."""
        if self.loss.class_weight is not None:
            # Class by class: the weights of all pixels would be a map.
            return sum(
                weight * (self.labels == class_id).sum().to(like.dtype)
                for class_id, weight in enumerate(self.loss.class_weight)
                if class_id != self.ignore_index
            )
        if self.loss.avg_non_ignore:
            return (self.labels != self.ignore_index).sum().to(like.dtype)
        return self.labels.numel()


class BinaryCrossEntropyTerm(Term):
    """``CrossEntropyLoss(use_sigmoid=True)``, one sigmoid per channel.

    Raises:
        ValueError: If a single channel meets a third class.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.classes == 1:
            known = self.labels != self.ignore_index
            if ((self.labels > 1) & known).any():
                raise ValueError(
                    'logits of one channel need labels 0, 1 and '
                    f'{self.ignore_index}; found '
                    f'{int(self.labels[known].max())}'
                )

    def _valid(self, labels: Tensor) -> Tensor:
        """Tell which labels count; stock leaves out negative ones too."""
        return (labels >= 0) & (labels != self.ignore_index)

    def sums(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, ...]:
        """See :class:`Term`."""
        first = 1 if self.classes == 1 else 0
        ids = torch.arange(
            first, first + self.classes, device=labels.device
        ).view(-1, 1, 1)
        each = F.binary_cross_entropy_with_logits(
            logits, (labels[:, None] == ids).to(logits), reduction='none'
        )
        counted = self._valid(labels).to(logits)
        if weight is not None:
            counted = counted * weight
        return (self.loss.loss_weight * (each * counted[:, None]).sum(),)

    def value(self, *sums: Tensor) -> Tensor:
        """See :class:`Term`."""
        (total,) = sums
        if self.loss.reduction == 'sum':
            return total
        if self.loss.avg_non_ignore:
            count = self._valid(self.labels).sum().to(total.dtype)
            return total / (count * self.classes + _EPS)
        return total / (self.labels.numel() * self.classes)


class FocalTerm(Term):
    """:class:`SoftmaxFocalLoss`, whose means of stripes are undone."""

    def _count(self, labels: Tensor) -> Tensor | int:
        if not self.loss.avg_non_ignore:
            return labels.numel()
        return (labels != self.ignore_index).sum().clamp(min=1)

    def sums(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, ...]:
        """See :class:`Term`."""
        mean = self.loss(
            logits, labels, weight=weight, ignore_index=self.ignore_index
        )
        return (mean * self._count(labels),)

    def value(self, *sums: Tensor) -> Tensor:
        """See :class:`Term`."""
        return sums[0] / self._count(self.labels)


class DiceTerm(Term):
    """``DiceLoss``: overlap and size of each image's prediction."""

    def sums(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, ...]:
        """See :class:`Term`."""
        likely = logits
        if self.loss.activate:
            if self.loss.use_sigmoid:
                likely = logits.sigmoid()
            elif self.classes > 1:
                likely = logits.softmax(dim=1)
        own = labels.clamp(0, self.classes - 1)[:, None]
        overlap = likely.gather(1, own)[:, 0] * self._inside(labels)
        size = likely if self.loss.naive_dice else likely * likely
        left_out = self.loss.ignore_index
        if left_out is not None and 0 <= left_out < self.classes:
            keep = torch.arange(self.classes, device=labels.device) != left_out
            size = size * keep.view(-1, 1, 1)
        return overlap.flatten(1).sum(1), size.flatten(1).sum(1)

    def _inside(self, labels: Tensor) -> Tensor:
        """Tell which pixels belong to a class; to stock, negative ones too."""
        inside = labels < self.classes
        left_out = self.loss.ignore_index
        if left_out is None:
            return inside
        return inside & (labels.clamp(min=0) != left_out)

    def value(self, *sums: Tensor) -> Tensor:
        """See :class:`Term`."""
        overlap, size = sums
        target = self._inside(self.labels).flatten(1).sum(1).to(size.dtype)
        eps = self.loss.eps
        if self.loss.naive_dice:
            dice = (2 * overlap + eps) / (size + target + eps)
        else:
            dice = 2 * overlap / (size + target + 2 * eps)
        loss = 1 - dice
        loss = loss.sum() if self.loss.reduction == 'sum' else loss.mean()
        return self.loss.loss_weight * loss


def find_term(loss: nn.Module, weighted: bool) -> type[Term] | None:
    """Choose how a loss is summed up.

    Args:
        loss (nn.Module): The configured loss.
        weighted (bool): Whether a sampler weights its pixels.

    Returns:
        type[Term] | None: None for losses that stripes cannot add up, or
        not with these options.
    """
    # Exact types: a subclass may do anything.
    if type(loss) is SoftmaxFocalLoss:
        return FocalTerm
    if getattr(loss, 'reduction', None) not in ('mean', 'sum'):
        return None
    if type(loss) is DiceLoss and not weighted:
        return DiceTerm
    if type(loss) is CrossEntropyLoss and not loss.use_mask:
        if not loss.use_sigmoid:
            return CrossEntropyTerm
        # Stock takes class weights for weights of columns here.
        if loss.class_weight is None:
            return BinaryCrossEntropyTerm
    return None
