import pytest
import torch
from mmengine.config import Config

from mmseg_uhr.apis import launch


@pytest.fixture
def cpu(monkeypatch):
    """Let the machine have no accelerator."""
    monkeypatch.setattr(launch, 'get_device', lambda: 'cpu')


@pytest.fixture
def cfg():
    return Config(
        dict(
            model=dict(
                norm_cfg=dict(type='SyncBN', requires_grad=True),
                heads=[dict(norm_cfg=dict(type='SyncBN'))],
            ),
            optim_wrapper=dict(
                type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)
            ),
            sync_bn='torch',
        )
    )


def test_gpu_changes_nothing(monkeypatch, cfg):
    monkeypatch.setattr(launch, 'get_device', lambda: 'cuda')
    launch.enable_amp(cfg)
    launch.prepare_launch(cfg, 'slurm')
    assert cfg.launcher == 'slurm'
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    assert cfg.model.norm_cfg.type == 'SyncBN'
    assert 'model_wrapper_cfg' not in cfg


def test_cpu_has_no_sync_bn(cpu, cfg):
    launch.prepare_launch(cfg)
    assert cfg.model.norm_cfg == dict(type='BN', requires_grad=True)
    assert cfg.model.heads[0].norm_cfg.type == 'BN'
    assert 'sync_bn' not in cfg


def test_cpu_leaves_amp_out(cpu, cfg):
    launch.enable_amp(cfg)
    with pytest.warns(UserWarning, match='not available on cpu.*fp32'):
        launch.prepare_launch(cfg)
    assert cfg.optim_wrapper == dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)
    )


def test_amp_keeps_the_config_s_own_scale(cfg):
    cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale=512.0)
    launch.enable_amp(cfg)
    assert cfg.optim_wrapper.loss_scale == 512.0
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(ValueError, match="type='ApexOptimWrapper'"):
        launch.enable_amp(cfg)


def test_cpu_processes_meet_over_gloo(cpu, cfg, monkeypatch):
    started = []
    monkeypatch.setattr(launch.dist, 'init_process_group', started.append)
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '1')
    cfg.find_unused_parameters = True
    launch.prepare_launch(cfg, 'pytorch')
    assert started == ['gloo']
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=True,
        device_ids=None,
    )


def test_launchers_that_cannot_work_say_so(cpu, cfg, monkeypatch):
    with pytest.raises(RuntimeError, match='slurm.*no GPU.*dist_train'):
        launch.prepare_launch(cfg, 'slurm')
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(RuntimeError, match='RANK.*is not set.*dist_train'):
        launch.prepare_launch(cfg, 'pytorch')


def test_device_is_the_best_or_the_named_one():
    best = 'cuda' if torch.cuda.is_available() else 'cpu'
    assert launch.pick_device().type == best
    assert launch.pick_device('cpu') == torch.device('cpu')
    for wrong in ('cuda:99', 'gpu'):
        with pytest.raises(ValueError, match=f"device '{wrong}'.*choose"):
            launch.pick_device(wrong)
