"""Shallow-deep contrastive loss."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine import dist
from mmengine.logging import MessageHub
from torch import Tensor

from ...registry import MODELS

NO_CLASS = -1


def majority_labels(
    label: Tensor,
    size: tuple[int, int],
    num_classes: int,
    exclude_classes: tuple[int, ...] = (),
    purity: float = 0.75,
) -> Tensor:
    """Majority class of each cell of a grid laid over a label map.

    Args:
        label (Tensor): Integer labels (N, H, W). Values that are no class
            (255) count as part of a cell but never win it.
        size (tuple[int, int]): Cells ``(h, w)``.
        num_classes (int): Number of classes.
        exclude_classes (tuple[int, ...]): Classes treated like ignored ones.
        purity (float): Share of a cell that its majority class needs.

    Returns:
        Tensor: int64 (N, h, w), ``-1`` where no class is pure enough.
    """
    n, height, width = label.shape
    h, w = size
    label = label.long()
    for excluded in exclude_classes:
        label = label.masked_fill(label == excluded, num_classes)
    label = label.masked_fill((label < 0) | (label > num_classes), num_classes)
    rows = torch.arange(height, device=label.device) * h // height
    cols = torch.arange(width, device=label.device) * w // width
    cell = (rows[:, None] * w + cols) + h * w * torch.arange(
        n, device=label.device
    ).view(-1, 1, 1)
    bins = num_classes + 1
    counts = torch.bincount(
        (cell * bins + label).flatten(), minlength=n * h * w * bins
    ).view(n, h, w, bins)
    most, winner = counts[..., :num_classes].max(dim=-1)
    pure = (most > 0) & (most >= purity * counts.sum(dim=-1))
    return winner.masked_fill(~pure, NO_CLASS)


def _pick(candidates: Tensor, limit: int) -> Tensor:
    """Choose at most ``limit`` of some indices (K,) at random."""
    if len(candidates) <= limit:
        return candidates
    order = torch.randperm(len(candidates), device=candidates.device)
    return candidates[order[:limit]]


@MODELS.register_module()
class ShallowDeepContrastLoss(nn.Module):
    """Pull shallow features of a class towards the deep ones of that class.

    InfoNCE of shallow cells (anchors) against the class prototypes of the
    deep map and sampled deep cells of other classes. The deep map is a fixed
    target: its gradient is stopped and nothing learnable is applied to it,
    since a projector behind a stopped gradient would never be trained.
    Instead its mean over batch and space is removed, because features behind
    a ReLU all point the same way. No memory bank is kept.

    Sums behind the mean and the prototypes are reduced over all ranks, on
    every rank in every step.

    Only the purpose is known from HGN's abstract (Liu et al., IEEE TMM 27,
    2025); the formulation is this project's reading of it.

    Args:
        temperature (float): Temperature of the softmax.
        max_anchors (int): Shallow cells per class, one half of them hard and
            one half easy as far as there are enough of both.
        max_negatives (int): Deep cells of every other class.
        warmup (float): Share of the training during which the weight rises
            linearly. Without a running mmengine loop the weight is full.
        loss_weight (float): Weight of the loss.
        loss_name (str): Key of the loss; holds 'loss' to be optimised.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        max_anchors: int = 64,
        max_negatives: int = 256,
        warmup: float = 0.05,
        loss_weight: float = 0.1,
        loss_name: str = 'loss_sdc',
    ):
        super().__init__()
        self.temperature = temperature
        self.max_anchors = max_anchors
        self.max_negatives = max_negatives
        self.warmup = warmup
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def weight(self) -> float:
        """Weight at the current iteration of the running training."""
        hub = MessageHub.get_current_instance()
        max_iters = hub.get_info('max_iters', None)
        if not max_iters or not self.warmup:
            return self.loss_weight
        ramp = (hub.get_info('iter', 0) + 1) / (self.warmup * max_iters)
        return self.loss_weight * min(ramp, 1.0)

    @staticmethod
    def _targets(deep: Tensor) -> Tensor:
        """Centre (over all ranks) and normalise deep features (M, d)."""
        total = torch.cat((deep.sum(dim=0), deep.new_full((1,), len(deep))))
        dist.all_reduce(total)
        return F.normalize(deep - total[:-1] / total[-1], dim=1)

    @staticmethod
    def _prototypes(
        targets: Tensor, labels: Tensor, num_classes: int
    ) -> tuple[Tensor, Tensor]:
        """Mean direction of each class over all ranks.

        Args:
            targets (Tensor): Unit vectors (M, d).
            labels (Tensor): Their classes (M,), ``-1`` for none.
            num_classes (int): Number of classes C.

        Returns:
            tuple[Tensor, Tensor]: Unit vectors (C, d) and which of the
            classes are present (C,).
        """
        valid = labels != NO_CLASS
        ones = targets.new_ones(len(targets), 1)
        sums = targets.new_zeros(num_classes, targets.shape[1] + 1)
        sums.index_add_(
            0, labels[valid], torch.cat((targets, ones), dim=1)[valid]
        )
        dist.all_reduce(sums)
        return F.normalize(sums[:, :-1], dim=1), sums[:, -1] > 0

    def _anchors(self, labels: Tensor, hard: Tensor, k: int) -> Tensor:
        """Indices of the anchors of class ``k``, half of them hard."""
        of_class = labels == k
        hard_ones = (of_class & hard).nonzero().flatten()
        easy_ones = (of_class & ~hard).nonzero().flatten()
        half = self.max_anchors // 2
        num_hard = max(half, self.max_anchors - len(easy_ones))
        hard_ones = _pick(hard_ones, num_hard)
        easy_ones = _pick(easy_ones, self.max_anchors - len(hard_ones))
        return torch.cat((hard_ones, easy_ones))

    def _contrast(
        self,
        shallow: Tensor,
        deep: Tensor,
        shallow_labels: Tensor,
        deep_labels: Tensor,
        hard: Tensor,
        num_classes: int,
    ) -> Tensor:
        """Unweighted loss of flat features, see :meth:`forward`."""
        targets = self._targets(deep)
        prototypes, present = self._prototypes(
            targets, deep_labels, num_classes
        )
        # Ranks may hold different classes; all collectives are done by now.
        # Zero, but joined to the graph: DDP wants every gradient every time.
        zero = shallow.sum() * 0
        if present.sum() < 2:
            return zero
        negatives = torch.cat(
            [
                _pick(
                    (deep_labels == k).nonzero().flatten(), self.max_negatives
                )
                for k in range(num_classes)
            ]
        )
        negative_labels = deep_labels[negatives]
        losses = []
        for k in present.nonzero().flatten().tolist():
            anchors = self._anchors(shallow_labels, hard, k)
            if not len(anchors):
                continue
            z = F.normalize(shallow[anchors], dim=1)
            to_classes = z @ prototypes[present].T / self.temperature
            others = negatives[negative_labels != k]
            to_cells = z @ targets[others].T / self.temperature
            positive = z @ prototypes[k] / self.temperature
            every = torch.cat((to_classes, to_cells), dim=1)
            losses.append((every.logsumexp(dim=1) - positive).mean())
        return torch.stack(losses).mean() if losses else zero

    def forward(
        self,
        shallow: Tensor,
        deep: Tensor,
        shallow_labels: Tensor,
        deep_labels: Tensor,
        hard: Tensor,
        num_classes: int,
    ) -> Tensor:
        """Contrast two maps of the same images.

        Args:
            shallow (Tensor): Projected shallow features (N, d, H, W).
            deep (Tensor): Deep features (N, d, h, w).
            shallow_labels (Tensor): Classes of the shallow cells (N, H, W),
                ``-1`` for none.
            deep_labels (Tensor): Classes of the deep cells (N, h, w).
            hard (Tensor): Shallow cells to prefer as anchors, bool (N, H, W).
            num_classes (int): Number of classes.

        Returns:
            Tensor: Weighted scalar; 0 if there are fewer than two classes.
        """
        # Exponentials at temperature 0.1 and sums over all cells: float32.
        with torch.autocast(shallow.device.type, enabled=False):
            loss = self._contrast(
                shallow.float().flatten(2).transpose(1, 2).flatten(0, 1),
                deep.detach().float().flatten(2).transpose(1, 2).flatten(0, 1),
                shallow_labels.flatten(),
                deep_labels.flatten(),
                hard.flatten(),
                num_classes,
            )
        return loss * self.weight()
