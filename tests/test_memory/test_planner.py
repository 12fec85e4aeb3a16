import math

import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_uhr.memory import Meter, WithoutValues, plan_memory
from mmseg_uhr.memory.fakes import faked
from mmseg_uhr.memory.probe import extrapolate
from mmseg_uhr.memory.search import largest_fitting

MIB = 2**20


class Segmentor(nn.Module):
    """A convolution, with whatever happens to its logits."""

    def __init__(self, between=lambda x: x, weights=1):
        super().__init__()
        self.between = between
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.large = nn.Parameter(torch.zeros(weights))

    def encode_decode(self, inputs, metas):
        return self.between(self.conv(inputs))

    def loss(self, inputs, samples):
        assert all(isinstance(sample, SegDataSample) for sample in samples)
        logits = self.between(self.conv(inputs)) * self.large.sum()
        return dict(loss=logits.mean())

    def parse_losses(self, losses):
        return losses['loss'], losses


def test_parts_add_up():
    # One weight of 64 MiB and nothing else of that size.
    model = Segmentor(weights=16 * MIB)
    plan = plan_memory(
        model, (32, 32), mode='train', optimizer=dict(type='Adam', lr=0.1)
    )
    assert plan.parameters == 64 * MIB + 48
    assert 128 * MIB <= plan.optimizer_state <= 128 * MIB + 1024
    assert plan.gradients == 64 * MIB + 48
    # The gradient is made while the weights are there, then the step's
    # temporary tensors.
    assert 64 * MIB < plan.activations < 130 * MIB
    assert plan.total == sum(
        (
            plan.parameters,
            plan.buffers,
            plan.gradients,
            plan.optimizer_state,
            plan.activations,
        )
    )
    assert plan.peak_at.startswith('optimizer step')
    assert 'optimizer state' in str(plan)


def test_optimizers_differ_by_their_state():
    def state(**cfg):
        plan = plan_memory(Segmentor(), (32, 32), 1, 'train', optimizer=cfg)
        return plan.optimizer_state

    weights = 3 * 4 * 4 + 4
    assert state(type='SGD', lr=0.1) == 0
    assert state(type='SGD', lr=0.1, momentum=0.9) == weights
    assert state(type='AdamW', lr=0.1) >= 2 * weights


def test_earlier_gradients_count():
    def need(counts):
        model = Segmentor(lambda x: x.repeat(1, 64, 1, 1), weights=MIB)
        cfg = dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.1),
            accumulative_counts=counts,
        )
        return plan_memory(model, (64, 64), 1, 'train', optimizer=cfg).total

    assert need(2) - need(1) >= 3 * MIB


def test_values_that_decide_about_sizes_are_the_worst():
    def select(x):
        mask = x > 0
        picked = x[mask]
        assert len(picked) == mask.sum() * x.numel()
        assert len(mask.nonzero()) == x.numel()
        assert len(x.masked_select(mask)) == x.numel()
        assert mask.any()
        assert x.max().item() == 1.0
        return x + torch.bincount(mask.flatten().long(), minlength=5).max()

    with faked(Segmentor(select)) as model:
        model.encode_decode(torch.zeros(1, 3, 8, 8), [])
    assert not plan_memory(Segmentor(select), (8, 8)).estimated


def test_the_model_stays_as_it_is():
    model = Segmentor().eval()
    before = model.conv.weight.clone()
    plan_memory(
        model, (8, 8), mode='train', optimizer=dict(type='SGD', lr=0.1)
    )
    assert not model.training
    assert model.conv.weight.grad is None
    assert type(model.conv.weight) is nn.Parameter
    assert torch.equal(model.conv.weight, before)
    assert model.conv(torch.ones(1, 3, 2, 2)).isfinite().all()


def test_large_models_need_no_memory():
    with Meter() as meter:
        with WithoutValues():
            model = Segmentor()
            model.deep = nn.Linear(2**15, 2**15)
            constant = torch.arange(4).float().mul_(2)
        plan = plan_memory(model, (8, 8))
    assert constant.tolist() == [0, 2, 4, 6]
    assert plan.parameters > 4 * 2**30
    assert meter.host_mib < 500


def test_models_that_need_values_are_measured():
    def by_value(x):
        # NumPy sees values, and fake tensors have none.
        scale = float(x.detach().numpy().shape[0])
        return x.repeat(1, 4, 1, 1) * scale

    model = Segmentor(by_value)
    plan = plan_memory(model, (512, 512))
    assert plan.estimated
    assert 'cannot run on fake tensors' in plan.reason
    assert 'an estimate' in str(plan)
    # Input, four channels, sixteen repeated and scaled: 39 maps or less.
    unit = 512 * 512 * 4
    assert 35 * unit <= plan.total <= 42 * unit


def test_values_that_nobody_wrote_are_not_used():
    def by_value(x):
        assert np.isfinite(x.detach().numpy()).all()
        return x

    with WithoutValues():
        model = Segmentor(by_value)
    model.conv.weight.data.fill_(float('nan'))
    assert plan_memory(model, (64, 64)).estimated


def test_errors_of_models_are_theirs():
    def fail(x):
        raise ValueError('no such thing')

    with pytest.raises(ValueError, match='no such thing'):
        plan_memory(Segmentor(fail), (64, 64))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(mode='test'), "'predict' or 'train'"),
        (dict(precision='int8'), 'fp16'),
    ],
)
def test_unknown_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_memory(Segmentor(), (8, 8), **arguments)


@pytest.mark.parametrize('grow', [lambda x: 3 * x + 7, lambda x: x * x + x])
def test_extrapolation_follows_lines_and_parabolas(grow):
    points = [(x, grow(x)) for x in (100, 225, 400)]
    assert extrapolate(points, 10_000) == pytest.approx(grow(10_000))


def test_extrapolation_does_not_bend_down():
    points = [(x, round(100 * math.sqrt(x))) for x in (100, 225, 400)]
    assert extrapolate(points, 10_000) > 100 * math.sqrt(10_000)


@pytest.mark.parametrize('need', [lambda n: 10 * n + 5, lambda n: n * n])
@pytest.mark.parametrize('budget', [0, 14, 15, 99, 100, 640, 10**6])
def test_largest_that_fits(need, budget):
    found = largest_fitting(need, budget, 64)
    assert found == max(
        [n for n in range(1, 65) if need(n) <= budget], default=0
    )
