"""Training in several processes: what is equal to one, and what survives.

The runs are real processes that meet over gloo: forks of one that has done
the imports, each of which runs ``tools/train.py``.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

from mmseg_uhr.compat import register_safe_globals
from mmseg_uhr.rasters import write_geotiff

ROOT = Path(__file__).resolve().parents[2]
CROP = (64, 64)
METHODS = ('fctl', 'hgn', 'hlrc', 'isdnet', 'lcf_ale', 'sghrq')
# What looks at the batch of one process: see docs/en/guides/distributed.md.
AS_ONE_PROCESS = dict(
    hgn={'model.auxiliary_head.0.loss_contrast.loss_weight': 0.0},
    hlrc={'model.decode_head.loss_balance.loss_weight': 0.0},
    sghrq={'model.decode_head.sync': 'batch'},
)

# Runs jobs, a line of JSON each, and answers with their exit codes. A job's
# processes are forked before PyTorch has started any thread.
FORKS = """
import atexit, json, os, runpy, signal, sys, traceback

# Whatever else is printed is no answer.
answers = os.fdopen(os.dup(1), 'w')
os.dup2(2, 1)

from yapf.yapflib import yapf_api

# Laying out a config takes longer than these trainings, and each does it six
# times.
yapf_api.FormatCode = lambda text, **options: (text, True)

import matplotlib.pyplot
import mmseg_uhr
import torch._dynamo
from mmseg.utils import register_all_modules

register_all_modules()
tool = sys.argv[1]


def work(job, rank):
    log = os.open(f"{job['log']}.{rank}", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = [tool, *job['arguments']]
    if job['world'] > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(job['world']),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(job['port']),
        )
        sys.argv += ['--launcher', 'pytorch']
    try:
        runpy.run_path(tool, run_name='__main__')
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    atexit._run_exitfuncs()
    os._exit(code)


for line in sys.stdin:
    job = json.loads(line)
    pids = []
    for rank in range(job['world']):
        pids.append(os.fork())
        if not pids[-1]:
            work(job, rank)
    found = [os.waitpid(pids[0], 0)[1]]
    for pid in pids[1:]:
        if job.get('stuck'):
            # It has not noticed anything, and never will.
            os.kill(pid, signal.SIGKILL)
        found.append(os.waitpid(pid, 0)[1])
    codes = [os.waitstatus_to_exitcode(status) for status in found]
    print(json.dumps(codes), file=answers, flush=True)
"""

HOOKS = """
import os
import resource
import signal

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.nn.modules.batchnorm import _BatchNorm


@HOOKS.register_module()
class FrozenNorms(Hook):
    '''Batch norms that do not look at the batch.'''

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


@HOOKS.register_module()
class Signal(Hook):
    '''Sends one process a signal before an iteration.'''

    def __init__(self, number, iteration, rank):
        self.number, self.iteration, self.rank = number, iteration, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (runner.iter, runner.rank) == (self.iteration, self.rank):
            os.kill(os.getpid(), self.number)


@HOOKS.register_module()
class Failure(Hook):
    '''An error in one process.'''

    def __init__(self, iteration, rank):
        self.iteration, self.rank = iteration, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (runner.iter, runner.rank) == (self.iteration, self.rank):
            raise KeyError('exploded')


@HOOKS.register_module()
class DeathInSaving(Hook):
    '''The system ends the first process in the middle of a checkpoint.'''

    def __init__(self, iteration):
        self.iteration = iteration

    def before_save_checkpoint(self, runner, checkpoint):
        if checkpoint['meta']['iter'] == self.iteration:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
"""


def write_scenes(folder):
    """Eight scenes as large as a crop, of which there is one window."""
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
    for seed in range(8):
        rng = np.random.default_rng(seed)
        labels = np.kron(rng.integers(0, 3, (4, 4)), np.ones((16, 16), int))
        image = colours[labels] + rng.normal(0, 20, (*CROP, 3))
        write_geotiff(
            folder / 'images' / f'{seed}.tif',
            image.clip(0, 255).astype(np.uint8),
        )
        write_geotiff(
            folder / 'labels' / f'{seed}.tif', labels.astype(np.uint8)
        )


def without_dropout(node):
    """Take out what draws random numbers in a forward pass."""
    if isinstance(node, dict):
        for name in ('dropout_ratio', 'drop_path_rate'):
            if name in node:
                node[name] = 0.0
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            without_dropout(child)


def small_config(method, folder, batch_size):
    """A method's config for CPUs, without anything random."""
    (path,) = (ROOT / 'configs' / method).glob(
        '*w16_5min_bluemarble-192x192.py'
    )
    cfg = Config.fromfile(path)
    views = dict(large=dict(region=3, size=CROP))
    pipeline = []
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform.type == 'mmseg_uhr.RandomD4':
            continue
        if transform.type == 'mmseg_uhr.RandomWindow':
            transform.crop_size = CROP
        if 'views' in transform:
            transform.views = views
        pipeline.append(transform)
    dataset = dict(
        type='mmseg_uhr.UHRDataset',
        data_root=str(folder),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(
            classes=('red', 'green', 'blue'),
            palette=[[200, 60, 60], [60, 200, 60], [60, 60, 200]],
        ),
    )
    cfg.train_dataloader = dict(
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(type='InfiniteSampler', shuffle=False),
        dataset=dict(**dataset, pipeline=pipeline),
    )
    for name in ('val', 'test'):
        for part in ('dataloader', 'evaluator', 'cfg'):
            cfg[f'{name}_{part}'] = None
    model = cfg.model
    model.data_preprocessor.size = CROP
    if 'views' in model:
        model.views = views
    for head in (model.decode_head, *(model.get('auxiliary_head') or ())):
        head.num_classes = 3
        head.pop('exclude_classes', None)
    without_dropout(model)
    cfg.custom_imports = dict(
        imports=['mmseg_uhr', 'parallel_hooks'], allow_failed_imports=False
    )
    cfg.custom_hooks = [dict(type='mmengine.FrozenNorms')]
    cfg.optim_wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
    )
    cfg.param_scheduler = [
        dict(type='PolyLR', power=0.9, begin=0, end=8, by_epoch=False)
    ]
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=4)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 2
    cfg.log_processor = dict(by_epoch=False, window_size=1)
    cfg.randomness = dict(seed=0)
    return cfg


class Lab:
    """Starts trainings and looks at what they leave."""

    def __init__(self, folder):
        self.folder = folder
        (folder / 'parallel_hooks.py').write_text(HOOKS)
        (folder / 'forks.py').write_text(FORKS)
        write_scenes(folder / 'data')
        path = os.pathsep.join(
            [str(ROOT), str(folder), os.environ.get('PYTHONPATH', '')]
        )
        with (folder / 'forks.log').open('w') as log:
            self._forks = subprocess.Popen(
                [
                    *(sys.executable, str(folder / 'forks.py')),
                    str(ROOT / 'tools' / 'train.py'),
                ],
                env=dict(
                    os.environ,
                    PYTHONPATH=path,
                    OMP_NUM_THREADS='1',
                    CUDA_VISIBLE_DEVICES='',
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def close(self):
        self._forks.stdin.close()
        self._forks.wait()

    def config(self, method, batch_size=2):
        cfg = small_config(method, self.folder / 'data', batch_size)
        cfg.merge_from_dict(AS_ONE_PROCESS.get(method, {}))
        cfg.load_from = str(self.start(method, cfg))
        return cfg

    def start(self, method, cfg):
        """Write the weights that all runs of a method begin with.

        Runners draw them at different moments, so that one seed is not
        enough.
        """
        path = self.folder / f'{method}_start.pth'
        if not path.exists():
            register_all_modules()
            torch.manual_seed(0)
            model = MODELS.build(cfg.model)
            model.init_weights()
            torch.save(dict(state_dict=model.state_dict()), path)
        return path

    def job(self, name, cfg, world, *arguments, **options):
        path = self.folder / f'{name}.py'
        if '--resume' in arguments:
            cfg.load_from = None
        cfg.experiment_name = cfg.visualizer.name = name
        cfg.dump(path)
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        work_dir = self.folder / name
        return dict(
            world=world,
            port=port,
            log=str(self.folder / f'{name}.log'),
            arguments=[str(path), '--work-dir', str(work_dir), *arguments],
            **options,
        )

    def run(self, *jobs):
        """Return the exit codes of the processes of each job."""
        found = []
        for job in jobs:
            print(json.dumps(job), file=self._forks.stdin, flush=True)
            codes = self._forks.stdout.readline()
            assert codes, (self.folder / 'forks.log').read_text()[-4000:]
            found.append(json.loads(codes))
        return found

    def succeed(self, *jobs):
        for job, codes in zip(jobs, self.run(*jobs), strict=True):
            assert not any(codes), self.log(job)

    def log(self, job, rank=0):
        return Path(f'{job["log"]}.{rank}').read_text()[-6000:]

    def losses(self, name):
        """Losses of all iterations, as logged."""
        (path,) = self.folder.glob(f'{name}/*/vis_data/scalars.json')
        lines = map(json.loads, path.read_text().splitlines())
        return [line['loss'] for line in lines if 'loss' in line]

    def weights(self, name, iteration=4):
        register_safe_globals()
        path = self.folder / name / f'iter_{iteration}.pth'
        return torch.load(path, weights_only=True)['state_dict']


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # See FORKS. Older versions of MMEngine import it at once.
        for module in ('yapf.yapflib.yapf_api', 'mmengine.config.config'):
            patch.setattr(
                f'{module}.FormatCode',
                lambda text, **options: (text, True),
                raising=False,
            )
        lab = Lab(tmp_path_factory.mktemp('lab'))
        yield lab
        lab.close()


def assert_close(found, expected):
    """Compare all weights at once.

    Single ones may differ more: the gradient of an absolute value jumps where
    rounding changes a sign.
    """
    assert found.keys() == expected.keys()
    found, expected = (
        torch.cat([one[name].double().flatten() for name in expected])
        for one in (found, expected)
    )
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.fixture(scope='module')
def curves(lab):
    """Each method in one process, in two, and in two that recompute."""
    jobs = []
    for method in METHODS:
        for name, world, batch_size in (
            ('one', 1, 4),
            ('two', 2, 2),
            ('checkpoint', 2, 2),
        ):
            cfg = lab.config(method, batch_size)
            if name == 'checkpoint':
                cfg.model.train_cfg.checkpoint = ['decode_head']
            jobs.append(lab.job(f'{method}_{name}', cfg, world))
    lab.succeed(*jobs)


@pytest.mark.parametrize('method', METHODS)
def test_two_processes_train_as_one(curves, lab, method):
    """Same losses in the log, same weights in the end."""
    one, two = (lab.losses(f'{method}_{name}') for name in ('one', 'two'))
    assert len(one) == 4
    np.testing.assert_allclose(two, one, rtol=1e-6)
    assert_close(lab.weights(f'{method}_two'), lab.weights(f'{method}_one'))


@pytest.mark.parametrize('method', METHODS)
def test_recomputed_modules_in_two_processes(curves, lab, method):
    assert lab.losses(f'{method}_checkpoint') == pytest.approx(
        lab.losses(f'{method}_two'), rel=1e-6
    )


def with_strategy(cfg, name):
    """Add one of our strategies, as a config that inherits it does."""
    path = ROOT / 'configs' / '_base_' / 'strategies' / f'{name}.py'
    cfg.merge_from_dict(Config.fromfile(path).to_dict())
    return cfg


@pytest.fixture(scope='module')
def strategies(curves, lab):
    """Each method with FSDP, in two processes."""
    lab.succeed(
        *(
            lab.job(
                f'{method}_fsdp', with_strategy(lab.config(method), 'fsdp'), 2
            )
            for method in METHODS
        )
    )


@pytest.mark.parametrize('method', METHODS)
def test_shards_train_as_one_process(strategies, lab, method):
    """Checkpoints are those of the plain Runner, too."""
    one, sharded = (lab.losses(f'{method}_{name}') for name in ('one', 'fsdp'))
    np.testing.assert_allclose(sharded, one, rtol=1e-6)
    assert_close(lab.weights(f'{method}_fsdp'), lab.weights(f'{method}_one'))


def test_the_table_of_the_documentation():
    """What it calls tested is tested above."""
    page = ROOT / 'docs' / 'en' / 'guides' / 'distributed.md'
    rows = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in page.read_text().splitlines()
        if line.endswith(('| tested |', '| not run |'))
    ]
    tested = {
        row[0].lower().replace('-', '_'): row[1:].count('tested')
        for row in rows
    }
    # DDP, FSDP and recomputed modules.
    assert tested == dict.fromkeys(METHODS, 3)
    assert {row[-1] for row in rows} == {'not run'}


@pytest.fixture(scope='module')
def undisturbed(lab):
    lab.succeed(lab.job('undisturbed', lab.config('isdnet'), 2))
    return lab.weights('undisturbed')


def disturbed(lab, hook, **dist_cfg):
    cfg = lab.config('isdnet')
    cfg.custom_hooks += [hook]
    cfg.env_cfg.dist_cfg.update(dist_cfg)
    return cfg


@pytest.mark.parametrize('strategy', [None, 'fsdp'])
def test_killed_in_training(lab, undisturbed, strategy):
    name = f'killed_{strategy}'
    hook = dict(
        type='mmengine.Signal', number=signal.SIGKILL, iteration=3, rank=1
    )
    cfg, again = disturbed(lab, hook), lab.config('isdnet')
    if strategy:
        cfg, again = (
            with_strategy(cfg, strategy),
            with_strategy(again, strategy),
        )
    job = lab.job(name, cfg, 2)
    assert lab.run(job) == [[1, -signal.SIGKILL]]
    assert 'train.py: rank 0 of 2: ' in lab.log(job)
    assert 'no answer from another process' in lab.log(job)
    saved = lab.folder / name / 'iter_2.pth'
    assert f'the last checkpoint is {saved}: go on with --resume' in (
        lab.log(job)
    )
    lab.succeed(lab.job(name, again, 2, '--resume'))
    assert_close(lab.weights(name), undisturbed)


def test_killed_in_saving(lab, undisturbed):
    """The checkpoint before is whole, and what is half a file says so."""
    cfg = disturbed(lab, dict(type='mmengine.DeathInSaving', iteration=4))
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    job = lab.job('saving', cfg, 2)
    assert lab.run(job)[0][0] == -signal.SIGXFSZ
    work_dir = lab.folder / 'saving'
    assert (work_dir / 'iter_4.pth.part').stat().st_size == 30000
    assert [path.name for path in work_dir.glob('*.pth')] == ['iter_2.pth']
    saved = str(work_dir / 'iter_2.pth')
    assert (work_dir / 'last_checkpoint').read_text() == saved
    cfg.custom_hooks.pop()
    lab.succeed(lab.job('saving', cfg, 2, '--resume'))
    assert_close(lab.weights('saving'), undisturbed)
    names = sorted(path.name for path in work_dir.glob('*t*_[4p]*'))
    assert names == ['iter_4.pth']


def test_an_error_in_one_process(lab):
    hook = dict(type='mmengine.Failure', iteration=3, rank=1)
    job = lab.job('error', disturbed(lab, hook), 2)
    assert lab.run(job) == [[1, 1]]
    assert "train.py: rank 1 of 2: KeyError: 'exploded'" in lab.log(job, 1)
    assert 'rank 0 of 2: no answer from another process' in lab.log(job)


def test_a_process_that_is_stuck(lab):
    hook = dict(
        type='mmengine.Signal', number=signal.SIGSTOP, iteration=3, rank=1
    )
    cfg = disturbed(lab, hook, timeout=20)
    job = lab.job('stuck', cfg, 2, stuck=True)
    assert lab.run(job) == [[1, -signal.SIGKILL]]
    assert 'rank 0 of 2: no answer from another process' in lab.log(job)
