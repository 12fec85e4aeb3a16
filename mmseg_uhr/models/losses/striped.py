"""Losses of full-size logits that never exist in full."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmengine.logging import print_log
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import OHEMPixelSampler
from mmseg.utils import SampleList
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..layers.enlarging import Stripe, enlargement_of
from .striped_terms import CrossEntropyTerm, Term, find_term

_ACCURACY_EPS = torch.finfo(torch.float32).eps


def stripe_losses(model: nn.Module, rows: int) -> None:
    """Let the decode heads of a model compute their losses in stripes.

    Stock's ``BaseDecodeHead.loss_by_feat`` enlarges the logits to the size of
    the labels; with a soft-max and gradients that is three maps of all
    classes at full size, for every head. Here stripes of rows are enlarged
    one after the other, and of each only the sums that the losses consist of
    and their gradients by the small logits stay. Nothing is computed twice.
    Losses, gradients and ``acc_seg`` are stock's, up to rounding; logits of
    half precision are enlarged in float32.

    Taken over are heads whose ``loss_by_feat`` is stock's, with any number
    of ``CrossEntropyLoss`` (softmax, or sigmoid without class weights),
    ``DiceLoss`` and :class:`SoftmaxFocalLoss`, and with ``OHEMPixelSampler``
    as far as stock combines them. The method ``losses_of_logits(logits,
    labels)`` of a head that has one, for losses of further logits without
    their accuracy, is taken over as well. Other heads stay as they are and
    are named in the log.

    Args:
        model (nn.Module): Holds the heads; changed in place. Its state dict
            stays as it is.
        rows (int): Rows of the labels per stripe. Memory is proportional to
            it; 128 is a good choice.

    Raises:
        ValueError: If ``rows`` is not a positive integer.
    """
    if type(rows) is not int or rows < 1:
        raise ValueError(
            f'train_cfg.loss_rows={rows!r}: expected a number of rows of the '
            'labels, such as 128; leave it out to compute losses as stock '
            'does'
        )
    left = []
    for name, head in model.named_modules():
        if not isinstance(head, BaseDecodeHead):
            continue
        obstacle = _obstacle(head)
        if obstacle:
            left.append(f'{name} ({obstacle})')
            continue
        head.loss_by_feat = partial(_loss_by_feat, head, rows)
        if hasattr(head, 'losses_of_logits'):
            head.losses_of_logits = partial(_losses_of_logits, head, rows)
    if left:
        print_log(
            f'loss_rows={rows} does not hold for {", ".join(left)}: these '
            'losses are computed at full size.',
            logger='current',
        )


def _obstacle(head: BaseDecodeHead) -> str | None:
    """Tell why a head cannot be taken over, if so."""
    if type(head).loss_by_feat is not BaseDecodeHead.loss_by_feat:
        return f'{type(head).__name__} has its own loss_by_feat'
    sampler = head.sampler
    if sampler is not None and type(sampler) is not OHEMPixelSampler:
        return f'sampler {type(sampler).__name__}'
    for loss in _losses(head):
        term = find_term(loss, weighted=sampler is not None)
        if term is None:
            return f'{type(loss).__name__} as configured'
        if (
            sampler is not None
            and sampler.thresh is None
            and term is not CrossEntropyTerm
        ):
            return f'OHEMPixelSampler without thresh on {type(loss).__name__}'
    return None


def _losses(head: BaseDecodeHead) -> Sequence[nn.Module]:
    """Return the losses of a head."""
    losses = head.loss_decode
    return losses if isinstance(losses, nn.ModuleList) else [losses]


def _loss_by_feat(
    head: BaseDecodeHead,
    rows: int,
    seg_logits: Tensor,
    batch_data_samples: SampleList,
) -> dict[str, Tensor]:
    """Do what stock's method of that name does, in stripes."""
    labels = head._stack_batch_gt(batch_data_samples)
    correct = torch.zeros((), dtype=torch.int64, device=labels.device)
    losses = _losses_of_logits(head, rows, seg_logits, labels, correct)
    count = labels.numel()
    if head.ignore_index is not None:
        count = (labels != head.ignore_index).sum()
    share = 100.0 / (count + _ACCURACY_EPS)
    losses['acc_seg'] = (correct.float().view(1) + _ACCURACY_EPS) * share
    return losses


def _losses_of_logits(
    head: BaseDecodeHead,
    rows: int,
    seg_logits: Tensor,
    labels: Tensor,
    correct: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute the losses of a head.

    Args:
        head (BaseDecodeHead): Its losses, sampler and ``align_corners``.
        rows (int): Rows per stripe.
        seg_logits (Tensor): Logits (N, C, h, w).
        labels (Tensor): Class ids (N, 1, H, W).
        correct (Tensor, optional): An ``int64`` scalar to which the pixels
            that are right are added.

    Returns:
        dict[str, Tensor]: Scalars by the names of the losses.
    """
    labels = labels.squeeze(1)
    ignored = head.ignore_index
    terms: list[Term] = [
        find_term(loss, head.sampler is not None)(
            loss, labels, seg_logits.shape[1], ignored
        )
        for loss in _losses(head)
    ]
    # Stock losses would otherwise meet logits of half precision.
    with torch.autocast(seg_logits.device.type, enabled=False):
        enlargement = enlargement_of(
            seg_logits, labels.shape[1:], head.align_corners
        )
        stripes = list(enlargement.stripes(rows))
        kept = None
        if head.sampler is not None:
            with torch.no_grad():
                kept = _hard_pixels(head, seg_logits, labels, stripes)

        def sums(logits: Tensor, stripe: Stripe) -> list[Tensor]:
            target = labels[:, stripe.rows].long()
            weight = None
            if kept is not None:
                weight = kept[:, stripe.rows].to(logits.dtype)
            found = [term.sums(logits, target, weight) for term in terms]
            lengths[:] = map(len, found)
            if correct is not None:
                right = logits.detach().argmax(dim=1) == target
                if ignored is not None:
                    right &= target != ignored
                correct.add_(right.sum())
            return [one for some in found for one in some]

        lengths: list[int] = []
        differentiable = torch.is_grad_enabled() and seg_logits.requires_grad
        totals = _StripedSums.apply(seg_logits, stripes, sums, differentiable)
        losses: dict[str, Tensor] = {}
        for term, length in zip(terms, lengths, strict=True):
            value, totals = term.value(*totals[:length]), totals[length:]
            name = term.loss.loss_name
            losses[name] = losses[name] + value if name in losses else value
    return losses


def _hard_pixels(
    head: BaseDecodeHead,
    logits: Tensor,
    labels: Tensor,
    stripes: list[Stripe],
) -> Tensor:
    """Choose what ``OHEMPixelSampler`` chooses.

    What it compares is one value per pixel, and kept at full size.

    Returns:
        Tensor: bool (N, H, W).
    """
    sampler, ignored = head.sampler, head.ignore_index
    by_loss = sampler.thresh is None
    dtype = torch.promote_types(logits.dtype, torch.float32)
    measure = torch.empty(labels.shape, dtype=dtype, device=labels.device)
    for stripe in stripes:
        target = labels[:, stripe.rows].long()
        enlarged = stripe.enlarge(_slab(logits, stripe))
        if by_loss:
            measure[:, stripe.rows] = sum(
                loss(
                    enlarged,
                    target,
                    ignore_index=ignored,
                    reduction_override='none',
                )
                for loss in _losses(head)
            )
        else:
            own = target.masked_fill(target == ignored, 0)[:, None]
            likely = enlarged.softmax(dim=1).gather(1, own)
            measure[:, stripe.rows] = likely[:, 0]
    valid = labels != ignored
    count = sampler.min_kept * len(labels)
    ordered, order = measure[valid].sort(descending=by_loss)
    if by_loss:
        chosen = torch.zeros_like(ordered, dtype=torch.bool)
        chosen[order[:count]] = True
        return torch.zeros_like(valid).masked_scatter_(valid, chosen)
    threshold = sampler.thresh
    if len(ordered):
        at = min(count, len(ordered) - 1)
        threshold = ordered[at].clamp(min=threshold)
    return valid & (measure < threshold)


def _slab(logits: Tensor, stripe: Stripe) -> Tensor:
    """Return the small logits of a stripe, at least in float32."""
    part = logits.detach()[:, :, stripe.source]
    return part.to(torch.promote_types(part.dtype, torch.float32))


class _StripedSums(torch.autograd.Function):
    """Sums over stripes; their gradients are made while there is a stripe.

    The gradient of each sum by the small logits is as large as these. The
    images of a batch do not depend on each other, so a gradient of one value
    per image is as good as one of a scalar.
    """

    @staticmethod
    def forward(
        ctx,
        logits: Tensor,
        stripes: list[Stripe],
        function: Callable[[Tensor, Stripe], list[Tensor]],
        differentiable: bool,
    ) -> tuple[Tensor, ...]:
        totals: list[Tensor] = []
        gradients: list[Tensor] = []
        for stripe in stripes:
            slab = _slab(logits, stripe)
            with torch.set_grad_enabled(differentiable):
                slab.requires_grad_(differentiable)
                sums = function(stripe.enlarge(slab), stripe)
            if not totals:
                totals = [torch.zeros_like(one) for one in sums]
                if differentiable:
                    gradients = [
                        torch.zeros_like(logits, dtype=slab.dtype)
                        for _ in sums
                    ]
            for i, one in enumerate(sums):
                totals[i] += one.detach()
                if differentiable:
                    (found,) = torch.autograd.grad(
                        one,
                        slab,
                        torch.ones_like(one),
                        retain_graph=i + 1 < len(sums),
                    )
                    gradients[i][:, :, stripe.source] += found
        ctx.save_for_backward(*gradients)
        ctx.dtype = logits.dtype
        return tuple(totals)

    @staticmethod
    @once_differentiable
    def backward(ctx, *outer: Tensor) -> tuple:
        total = None
        for gradient, factor in zip(ctx.saved_tensors, outer):
            part = gradient * factor.view(-1, 1, 1, 1)
            total = part if total is None else total.add_(part)
        return total.to(ctx.dtype), None, None, None
