"""Checkpointed modules: the step of the plain model, with less memory."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmseg_uhr.memory import plan_memory
from mmseg_uhr.models.layers.checkpointing import checkpoint_modules
from mmseg_uhr.models.losses import stripe_losses
from mmseg_uhr.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# Tiny versions of the methods, and what is worth checkpointing in them.
METHODS = {
    'hgn/hgn_r18-w16_5min_bluemarble-192x192.py': [
        'backbone.shallow.stages.0',
        'backbone.shallow.stages.1',
        'backbone.shallow.stages.2.0',
        'backbone.shallow.stages.2.1',
        'backbone.deep.layer2',
        'decode_head.grafts.1',
        'auxiliary_head.0.convs.0',
    ],
    'sghrq/sghrq_r18-w16_5min_bluemarble-192x192.py': [
        'backbone.shallow',
        'backbone.deep',
        'decode_head.query',
        'decode_head.memory.embed',
        'auxiliary_head.0.sr_decoder.2',
    ],
    'baselines/deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192.py': [
        'backbone.stem',
        'backbone.layer1.0',
        'decode_head.aspp_modules',
        'decode_head.sep_bottleneck.0',
    ],
}


def build(config: str) -> nn.Module:
    """A tiny model in train mode, with dropout."""
    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIGS / config).model
    model = revert_sync_batchnorm(MODELS.build(cfg))
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.5
    return model.train()


def make_batch(size: int = 96) -> tuple[torch.Tensor, list[SegDataSample]]:
    """Two windows and their labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, size, size, generator=generator)
    samples = []
    for _ in range(2):
        label = torch.randint(0, 7, (1, size, size), generator=generator)
        label[:, :9] = 255
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return images, samples


def step(
    model: nn.Module, dtype: torch.dtype | None = None
) -> tuple[float, float]:
    """Compute gradients of a batch; return loss and next random number."""
    torch.manual_seed(1)
    images, samples = make_batch()
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        losses = model.loss(images, samples)
    total = sum(
        sum(v) if isinstance(v, list) else v
        for k, v in losses.items()
        if 'loss' in k
    )
    total.backward()
    return total.item(), torch.rand(()).item()


@pytest.mark.parametrize('config', METHODS)
def test_step_is_that_of_the_plain_model(config):
    plain = build(config)
    model = copy.deepcopy(plain)
    before = {k: v.clone() for k, v in plain.state_dict().items()}
    checkpoint_modules(model, METHODS[config])
    # Copies (an averaged model) compute by themselves.
    model = copy.deepcopy(model)
    assert list(model.state_dict()) == list(before)
    # Gradients of two batches are accumulated.
    for _ in range(2):
        assert step(model) == step(plain)
    changed = 0
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
        changed += not torch.equal(value, before[name])
    assert changed > 50
    for (name, expected), found in zip(
        plain.named_parameters(), model.parameters()
    ):
        assert expected.grad is not None, name
        assert torch.equal(found.grad, expected.grad), name


@pytest.mark.parametrize('config', METHODS)
def test_stripes_and_checkpoints_in_bf16(config):
    model = build(config)
    stripe_losses(model, 40)
    checkpoint_modules(model, METHODS[config])
    single = copy.deepcopy(model)
    loss, _ = step(model, torch.bfloat16)
    expected, _ = step(single)
    assert abs(loss - expected) < 0.03 * expected
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.dtype == torch.float32


@pytest.mark.parametrize(
    'name', ['hgn_r18', 'sghrq_r18', 'deeplabv3plus_r18-d8']
)
def test_lean_configs_train_in_less_memory(name):
    bases = CONFIGS / '_base_' / 'models'
    options = Config.fromfile(bases / f'{name}_lean.py').model.train_cfg
    plain = build(f'_base_/models/{name}.py')
    lean = copy.deepcopy(plain)
    stripe_losses(lean, options.loss_rows)
    checkpoint_modules(lean, options.checkpoint)
    plans = [
        plan_memory(model, (2448, 2448), batch_size=2, mode='train')
        for model in (plain, lean)
    ]
    assert not any(plan.estimated for plan in plans)
    assert plans[1].activations < 0.6 * plans[0].activations


class Counting(nn.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.calls = 0

    def forward(self, x: torch.Tensor, *, factor: float) -> torch.Tensor:
        self.calls += 1
        return self.layer(x).relu().square() * factor


def test_runs_again_only_for_gradients():
    model = nn.ModuleDict(dict(a=Counting(), b=Counting()))
    checkpoint_modules(model, 'a')
    # Naming a module twice, or in two calls, changes nothing.
    checkpoint_modules(model, ['a', 'a'])
    x = torch.rand(2, 3)
    with torch.no_grad():
        model['a'](x, factor=2.0)
    assert model['a'].calls == 1
    # The input needs no gradient, as an image does not.
    (model['a'](x, factor=2.0) + model['b'](x, factor=2.0)).sum().backward()
    assert (model['a'].calls, model['b'].calls) == (3, 1)
    assert model['a'].layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('backbone.layer9', "'backbone.layer9' is no module of"),
        ('', 'name one or more of what it holds: backbone, decode_head'),
        ('decode_head.sep', "'decode_head.sep' is no module of"),
        ('decode_head.convs', 'what it holds: 0, 1'),
    ],
)
def test_bad_names(name, message):
    model = nn.Module()
    model.backbone = nn.Module()
    model.decode_head = nn.Module()
    model.decode_head.convs = nn.ModuleList([nn.ReLU(), nn.ReLU()])
    with pytest.raises(ValueError, match=message):
        checkpoint_modules(model, [name])
    assert not any('forward' in vars(part) for part in model.modules())


def test_modules_within_each_other():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="'0.0' lies within '0'"):
        checkpoint_modules(model, ['0.0', '0'])


def _train(rank: int, folder: str) -> None:
    """Train plain and checkpointed models as one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(True), nn.Conv2d(8, 8, 3)),
        nn.Dropout2d(),
        nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(True), nn.Conv2d(8, 2, 1)),
    )
    results = []
    for names, options in (
        ([], {}),
        (['0', '1', '3'], {}),
        (['0', '1', '3'], dict(static_graph=True)),
        (['0', '1', '3'], dict(find_unused_parameters=True)),
    ):
        model = copy.deepcopy(plain)
        checkpoint_modules(model, names)
        model = DistributedDataParallel(model, **options)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        torch.manual_seed(rank)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.rand(2, 3, 8, 8)).square().mean().backward()
            optimizer.step()
        results.append(model.module.state_dict())
    torch.save(results, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), tmp_path],
            env=dict(os.environ, OMP_NUM_THREADS='1'),
        )
        for rank in range(2)
    ]
    assert [process.wait(100) for process in processes] == [0, 0]
    ranks = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    for plain, *others in ranks:
        assert plain['1.0.num_batches_tracked'] == 3
        for name, value in plain.items():
            for state in others:
                assert torch.equal(state[name], value), name
    # Weights are shared, statistics are each process's own.
    (first, *_), (second, *_) = ranks
    for name, value in first.items():
        same = torch.equal(value, second[name])
        assert same == ('running' not in name), name


if __name__ == '__main__':
    _train(int(sys.argv[1]), sys.argv[2])
