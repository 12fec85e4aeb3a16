from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmseg.registry import MODELS
from torch import nn

from mmseg_uhr.apis import fit_config
from mmseg_uhr.compat import register_safe_globals
from mmseg_uhr.memory import total_memory
from mmseg_uhr.memory.inputs import make_samples
from mmseg_uhr.planning import Planner
from mmseg_uhr.planning.accumulation import accumulated
from mmseg_uhr.planning.savings import accepted

CONFIGS = Path(__file__).parents[2] / 'configs'


def with_hook(cfg, budget, policy='fit'):
    cfg = Config(cfg.to_dict())
    cfg.custom_hooks = [
        dict(
            type='mmseg_uhr.MemoryBudgetHook',
            budget=budget,
            policy=policy,
        )
    ]
    return cfg


@pytest.fixture
def cfg(tiny_cfg):
    """Config: larger batches and crops than the tiny one."""
    tiny_cfg.train_dataloader.batch_size = 8
    tiny_cfg.model.backbone.stem_channels = 8
    tiny_cfg.model.data_preprocessor.size = (128, 128)
    tiny_cfg.train_dataloader.dataset.pipeline[2].crop_size = (128, 128)
    return tiny_cfg


@pytest.fixture
def whole(cfg):
    """int: Bytes of a step of ``cfg``."""
    return Planner(cfg, 'train').plan().total


def test_what_fits_stays_as_it_is(cfg, whole):
    for one in (
        cfg,
        with_hook(cfg, whole),
        with_hook(cfg, whole // 9, 'cap'),
    ):
        before = one.pretty_text
        assert fit_config(one) == []
        assert one.pretty_text == before


def test_ways_to_save_in_their_order(cfg, whole):
    seen = []
    for percent in (98, 72, 50, 12):
        fitted = with_hook(cfg, whole * percent // 100)
        lines = fit_config(fitted)
        # All of them keep the promise.
        planner = Planner(fitted, 'train')
        assert planner.plan().total <= whole * percent // 100
        # And none needs to be fitted again.
        assert fit_config(fitted) == []
        train_cfg = fitted.model.get('train_cfg') or {}
        batch = fitted.train_dataloader.batch_size
        counts = fitted.optim_wrapper.get('accumulative_counts', 1)
        assert batch * counts == 8
        assert fitted.train_cfg.max_iters == 40 * counts
        seen.append(
            (
                'loss_rows' in train_cfg,
                'checkpoint' in train_cfg,
                counts,
                fitted.model.data_preprocessor.size[0] < 128,
            )
        )
        assert any('loss_rows=128' in line for line in lines)
    assert seen == sorted(seen)
    assert seen[0] == (True, False, 1, False)
    assert seen[-1][1:3] == (True, 8)
    assert (True, True, 1, False) in seen


def test_a_crop_is_the_last_resort(cfg):
    single = with_hook(cfg, 1)
    single.train_dataloader.batch_size = 1
    need = Planner(single, 'train').plan().total
    fitted = with_hook(cfg, need // 3)
    fit_config(fitted)
    size = fitted.model.data_preprocessor.size
    assert 64 <= size[0] < 128
    crop = fitted.train_dataloader.dataset.pipeline[2].crop_size
    assert tuple(crop) == tuple(size)
    assert fitted.optim_wrapper.accumulative_counts == 8


def test_crops_that_are_read_at_another_scale(cfg):
    plain = with_hook(cfg, 1)
    plain.train_dataloader.batch_size = 1
    need = Planner(plain, 'train').plan().total
    scaled = with_hook(plain, need // 3)
    pipeline = scaled.train_dataloader.dataset.pipeline
    assert pipeline[3].type == 'mmseg_uhr.ReadViews'
    pipeline[2].crop_size = (256, 256)
    pipeline[3].views = dict(local=dict(scale=0.5))
    # As the preprocessor pads them to, not as they lie in the file.
    assert Planner(scaled, 'train').plan().total == need
    fit_config(scaled)
    size = scaled.model.data_preprocessor.size
    crop = scaled.train_dataloader.dataset.pipeline[2].crop_size
    assert tuple(crop) == tuple(2 * side for side in size)
    # Without the preprocessor's word, the file's pixels are all there is.
    scaled.model.data_preprocessor.size = None
    scaled.crop_size = (256, 256)
    assert Planner(scaled, 'train').plan().size == (128, 128)


def test_stock_configs_get_our_type(cfg, whole):
    cfg.model.type = 'EncoderDecoder'
    cfg.model.data_preprocessor.type = 'SegDataPreProcessor'
    cfg.model.test_cfg = dict(mode='whole')
    cfg.model.train_cfg = None
    fitted = with_hook(cfg, int(0.97 * whole))
    fit_config(fitted)
    assert fitted.model.type == 'mmseg_uhr.UHREncoderDecoder'
    assert fitted.model.train_cfg.loss_rows == 128
    assert fitted.model.test_cfg.mode == 'whole'


@pytest.mark.parametrize(
    'budget, message',
    [
        ('lots', "budget='lots'"),
        (-1, 'budget=-1'),
        (2 * total_memory('cpu'), 'the device has'),
        ('50KiB', 'the least that training this model needs is about .* MiB'),
    ],
)
def test_bad_budgets(cfg, budget, message):
    if torch.cuda.is_available() and not isinstance(budget, str):
        pytest.skip('another device')
    with pytest.raises(ValueError, match=message):
        fit_config(with_hook(cfg, budget))


def test_counters_of_iterations_are_multiplied(tiny_cfg):
    tiny_cfg.train_cfg.dynamic_intervals = [(30, 5)]
    tiny_cfg.default_hooks.logger.interval_exp_name = 100
    tiny_cfg.custom_hooks = [
        dict(type='EMAHook', begin_iter=10),
        dict(type='CheckpointHook', interval=1),
        dict(type='EmptyCacheHook'),
    ]
    tiny_cfg.auto_scale_lr = dict(enable=True, base_batch_size=16)
    changes = accumulated(tiny_cfg, 1, 2)
    assert changes['train_cfg'] == dict(
        max_iters=80, val_interval=80, dynamic_intervals=[(60, 10)]
    )
    assert changes['default_hooks'] == dict(
        logger=dict(interval=20, interval_exp_name=200),
        checkpoint=dict(interval=40),
    )
    assert changes['custom_hooks'] == [
        dict(type='EMAHook', begin_iter=20, interval=2),
        dict(type='CheckpointHook', interval=1),
        dict(type='EmptyCacheHook'),
    ]
    assert changes['auto_scale_lr'] == dict(base_batch_size=8)


def test_epochs_stay_epochs(tiny_cfg):
    tiny_cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
    tiny_cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.1, end=10, by_epoch=False),
        dict(type='MultiStepLR', milestones=[1, 2], by_epoch=True),
    ]
    tiny_cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    changes = accumulated(tiny_cfg, 1, 2)
    assert 'train_cfg' not in changes
    assert set(changes['default_hooks']) == {'logger'}
    warmup, steps = changes['param_scheduler']
    assert (warmup['begin'], warmup['end']) == (1, 20)
    assert steps == tiny_cfg.param_scheduler[1]


def rates(schedulers, batches, counts):
    """Learning rates of the optimizer's steps."""
    weights = nn.Linear(1, 1)
    wrapper = build_optim_wrapper(
        weights, dict(optimizer=dict(type='SGD', lr=1.0))
    )
    built = [
        PARAM_SCHEDULERS.build(dict(cfg, optimizer=wrapper))
        for cfg in schedulers
    ]
    found = []
    for batch in range(batches):
        if (batch + 1) % counts == 0:
            found.append(wrapper.get_lr()['lr'][0])
        wrapper.optimizer.step()
        for scheduler in built:
            scheduler.step()
    return found


@pytest.mark.parametrize(
    'schedulers',
    [
        [dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=12)],
        [
            dict(type='LinearLR', start_factor=0.1, begin=0, end=4),
            dict(type='PolyLR', power=1.0, begin=4, end=12),
        ],
        [dict(type='CosineAnnealingLR', begin=2, end=12)],
        [dict(type='CosineAnnealingLR', T_max=12, eta_min=0.01)],
        [dict(type='MultiStepLR', milestones=[3, 7], gamma=0.5)],
        [dict(type='StepLR', step_size=4, gamma=0.5)],
        [dict(type='ExponentialLR', gamma=0.8)],
        [dict(type='ConstantLR', factor=0.5, end=5)],
        [
            dict(
                type='CosineRestartLR',
                periods=[6, 6],
                restart_weights=[1, 0.5],
                eta_min=0.0,
            )
        ],
    ],
)
def test_steps_have_the_rates_they_had(schedulers):
    schedulers = [dict(cfg, by_epoch=False) for cfg in schedulers]
    cfg = Config(dict(param_scheduler=schedulers))
    scaled = accumulated(cfg, 1, 3)['param_scheduler']
    assert rates(scaled, 36, 3) == pytest.approx(rates(schedulers, 12, 1))


SMALL = 'baselines/deeplabv3plus_r18-w16-d8_5min_bluemarble-192x192.py'


def test_modules_that_a_step_cannot_have_are_left_out():
    bad = {'b', 'e'}
    names = accepted('abcdefg', lambda some: not bad & set(some))
    assert names == list('acdfg')


def test_chosen_modules_change_no_gradient():
    cfg = Config.fromfile(CONFIGS / SMALL)
    cfg.train_dataloader.batch_size = 2
    cfg.model.data_preprocessor.size = (128, 128)
    planner = Planner(cfg, 'train')
    *_, savings = planner._ways_to_save()
    assert planner.plan(savings=savings).total < 0.9 * planner.plan().total
    inputs = torch.rand(2, 3, 128, 128, dtype=torch.double)
    labels = torch.randint(0, 2, (2, 1, 128, 128))
    state, found = None, []
    for model_cfg in (cfg.model, savings.apply(cfg.model)):
        torch.manual_seed(0)
        model = MODELS.build(ConfigDict(model_cfg, pretrained=None))
        model = revert_sync_batchnorm(model).double().train()
        if state is not None:
            model.load_state_dict(state)
        state = {k: v.clone() for k, v in model.state_dict().items()}
        torch.manual_seed(1)
        samples = make_samples(dict(img_shape=(128, 128)), 2, inputs.device)
        for sample, label in zip(samples, labels, strict=True):
            sample.gt_sem_seg.data = label
        loss, _ = model.parse_losses(model.loss(inputs, samples))
        loss.backward()
        found.append(
            {
                **{k: v.grad for k, v in model.named_parameters()},
                **dict(model.named_buffers()),
                'loss': loss.detach(),
            }
        )
    plain, saving = found
    for name, value in plain.items():
        if value is None:
            assert saving[name] is None
        else:
            assert torch.allclose(value, saving[name], rtol=1e-9), name


# No batch norm, and nothing random but the order of the scenes, which
# resuming promises to keep.
STEADY_CONFIG = """
_base_ = [{base!r}]
model = dict(
    data_preprocessor=dict(size=(96, 128)),
    backbone=dict(norm_cfg=dict(_delete_=True, type='GN', num_groups=2)),
    decode_head=dict(
        norm_cfg=dict(_delete_=True, type='GN', num_groups=2),
        loss_decode=dict(avg_non_ignore=False),
    ),
)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            dict(type='mmseg_uhr.LoadRaster'),
            dict(type='mmseg_uhr.LoadLabelRaster'),
            dict(type='mmseg_uhr.RandomWindow', crop_size=(96, 128)),
            dict(type='mmseg_uhr.ReadViews'),
            dict(type='mmseg_uhr.PackUHRInputs'),
        ],
    ),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=0.05, momentum=0.9)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=3, by_epoch=False),
    dict(type='PolyLR', power=0.9, begin=3, end=8, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=4))
train_cfg = dict(max_iters=8, val_interval=8)
"""


def test_a_fitted_and_resumed_run_trains_as_configured(
    tiny_config, tmp_path, run_tool
):
    config = tmp_path / 'steady.py'
    config.write_text(STEADY_CONFIG.format(base=str(tiny_config)))
    planner = Planner(Config.fromfile(config), 'train')
    budget = planner.plan().total // 2
    fitted = tmp_path / 'fitted.py'
    fitted.write_text(
        f'_base_ = [{str(config)!r}]\n'
        "custom_hooks = [dict(type='mmseg_uhr.MemoryBudgetHook', "
        f"policy='fit', budget={budget})]\n"
    )
    for source, *options in (
        (config,),
        (fitted, '--cfg-options', 'train_cfg.max_iters=4'),
        (fitted, '--resume'),
    ):
        folder = tmp_path / source.stem
        run_tool('train.py', source, '--work-dir', folder, *options)
    register_safe_globals()
    plain = torch.load(tmp_path / 'steady' / 'iter_8.pth', weights_only=True)
    (last,) = (tmp_path / 'fitted').glob('iter_[1-9][0-9].pth')
    cfg = Config.fromfile(tmp_path / 'fitted' / 'fitted.py')
    counts = cfg.optim_wrapper.accumulative_counts
    assert counts > 1
    assert cfg.train_dataloader.batch_size * counts == 4
    assert last.name == f'iter_{8 * counts}.pth'
    found = torch.load(last, weights_only=True)
    first = torch.load(
        tmp_path / 'fitted' / f'iter_{4 * counts}.pth', weights_only=True
    )
    name = 'decode_head.conv_seg.weight'
    assert not torch.equal(
        first['state_dict'][name], found['state_dict'][name]
    )
    weights = found['state_dict']
    for name, value in plain['state_dict'].items():
        assert torch.allclose(value, weights[name], rtol=0, atol=1e-6), name


def test_tools_say_what_is_wrong_in_one_sentence(
    tiny_config, tmp_path, run_tool
):
    config = tmp_path / 'small.py'
    config.write_text(
        f'_base_ = [{str(tiny_config)!r}]\n'
        "custom_hooks = [dict(type='mmseg_uhr.MemoryBudgetHook', "
        "budget='10KiB', policy='fit')]\n"
    )
    with pytest.raises(SystemExit, match='train.py: budget: .* the least'):
        run_tool('train.py', config, '--work-dir', tmp_path / 'work')
