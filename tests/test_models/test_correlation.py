"""Correlation with a context, and what it does not store."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmseg_uhr.models.layers import (
    ContextFusion,
    ContextualCorrelation,
    EncodedContext,
)
from mmseg_uhr.models.losses import SoftmaxFocalLoss

CHANNELS = 16


class LargestTensor(TorchDispatchMode):
    """Sizes of the tensors that operations make."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.numel = max(self.numel, leaf.numel())
        return out


def correlation(**options):
    module = ContextualCorrelation(CHANNELS, **options)
    torch.nn.init.ones_(module.gamma)
    return module


def stored(module, local, context):
    """The plain formula, with its map."""
    query = module.query(local).flatten(2)
    key = module.key(context).flatten(2)
    if module.center:
        query = query - query.mean(dim=2, keepdim=True)
    weights = torch.einsum('ncq,nck->nqk', query, key).softmax(dim=-1)
    value = module.value(context).flatten(2)
    out = torch.einsum('nck,nqk->ncq', value, weights)
    return module.gamma * out.view(local.shape)


def test_starts_at_zero_and_small():
    module = ContextualCorrelation(64)
    module.init_weights()
    x = torch.randn(1, 64, 3, 4)
    assert module(x, x).abs().max() == 0
    assert module.query.weight.detach().std() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize('center', [False, True])
def test_equals_the_formula(center):
    module = correlation(center=center)
    local = torch.randn(2, CHANNELS, 5, 6, requires_grad=True)
    context = torch.randn(2, CHANNELS, 4, 3, requires_grad=True)
    found = module(local, context)
    expected = stored(module, local, context)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    inputs = [local, context, *module.parameters()]
    weight = torch.randn_like(found)
    found = torch.autograd.grad((found * weight).sum(), inputs)
    expected = torch.autograd.grad((expected * weight).sum(), inputs)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_one_context_for_all_windows():
    module = correlation()
    local = torch.randn(3, CHANNELS, 4, 4)
    context = torch.randn(1, CHANNELS, 5, 2)
    torch.testing.assert_close(
        module(local, context), module(local, context.expand(3, -1, -1, -1))
    )


@pytest.mark.parametrize('training', [False, True])
def test_stores_no_map(training):
    side = 32
    module = correlation().requires_grad_(training)
    local, context = torch.randn(2, 1, CHANNELS, side, side)
    with LargestTensor() as largest:
        out = module(local, context)
        if training:
            out.sum().backward()
    assert largest.numel <= 4 * side**2 * CHANNELS < side**4


def test_large_products_in_half_precision():
    module = correlation()
    local = 300 * torch.randn(1, CHANNELS, 4, 4)
    with torch.autocast('cpu', torch.bfloat16):
        found = module(local.bfloat16(), local.bfloat16())
    assert found.dtype == torch.float32
    rounded = local.bfloat16().float()
    torch.testing.assert_close(found, module(rounded, rounded))


def fusion(**options):
    module = ContextFusion(CHANNELS, **options)
    for correlation in module.correlations.values():
        torch.nn.init.ones_(correlation.gamma)
    return module


def test_fusion_weighs_all_sources():
    module = fusion()
    local = torch.randn(2, CHANNELS, 5, 5)
    contexts = [torch.randn(2, CHANNELS, 4, 6), torch.randn(1, CHANNELS, 3, 3)]
    read = [
        layer(local, x)
        for layer, x in zip(module.correlations.values(), [local, *contexts])
    ]
    weights = module.gate(read)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones_like(local))
    assert weights.min() > 0.155
    assert weights.max() < 0.577
    expected = local + (weights * torch.stack(read)).sum(dim=0)
    torch.testing.assert_close(module(local, contexts), expected)
    encoded = [EncodedContext(x) for x in contexts]
    torch.testing.assert_close(module(local, encoded), expected)


def test_single_source_has_no_gate():
    module = fusion(contexts=('medium',), local=False)
    assert module.gate is None
    local, context = torch.randn(2, 1, CHANNELS, 4, 4)
    expected = local + module.correlations['medium'](local, context)
    torch.testing.assert_close(module(local, [context]), expected)


def test_wrong_fusions_are_explained():
    with pytest.raises(ValueError, match='names of one context'):
        ContextFusion(CHANNELS, contexts=())
    with pytest.raises(ValueError, match='no geometry'):
        ContextFusion(CHANNELS, position=dict())
    module, x = ContextFusion(CHANNELS), torch.randn(1, CHANNELS, 2, 2)
    with pytest.raises(ValueError, match='got 1 contexts'):
        module(x, [x])


def test_focal_loss_of_ignored_pixels():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[:, :2] = 255
    kept = SoftmaxFocalLoss()(logits[:, :, 2:], labels[:, 2:])
    mean = SoftmaxFocalLoss(avg_non_ignore=True)(logits, labels)
    torch.testing.assert_close(mean, kept)
    torch.testing.assert_close(SoftmaxFocalLoss()(logits, labels), kept / 2)
    labels.fill_(255)
    loss = SoftmaxFocalLoss(avg_non_ignore=True)(logits, labels)
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


def test_focal_loss_without_focus_is_cross_entropy():
    logits = torch.randn(2, 3, 4, 5)
    labels = torch.randint(0, 3, (2, 4, 5))
    torch.testing.assert_close(
        SoftmaxFocalLoss(gamma=0)(logits, labels),
        torch.nn.functional.cross_entropy(logits, labels),
    )


def test_initialisation_reaches_the_correlations():
    module = ContextFusion(64)
    module.init_weights()
    for layer in module.correlations.values():
        std = layer.key.weight.detach().std()
        assert std == pytest.approx(0.01, rel=0.1)
