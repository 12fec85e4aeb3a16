"""Fixtures for all tests: tiny scenes on disk and a tiny complete config.

One thread everywhere: on tensors this small, more only wait for each other.
"""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MKL_NUM_THREADS', '1')

import importlib
import json
import math
import random
import runpy
import socket
import subprocess
import sys
import uuid
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmseg_uhr.rasters import write_geotiff

ROOT = Path(__file__).resolve().parents[1]
SCENE_SHAPE = (96, 128)
NUM_CLASSES = 3

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    """Same numbers in every test, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def write_scene(folder: Path, name: str, seed: int) -> None:
    """Write an image (RGB) and its labels: blobs whose colour tells."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, NUM_CLASSES, [n // 16 for n in SCENE_SHAPE])
    labels = np.kron(coarse, np.ones((16, 16), int)).astype(np.uint8)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
    image = colours[labels] + rng.normal(0, 20, (*SCENE_SHAPE, 3))
    labels[:3] = 255
    image = image.clip(0, 255).astype(np.uint8)
    write_geotiff(folder / 'images' / f'{name}.tif', image)
    write_geotiff(folder / 'labels' / f'{name}.tif', labels)


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    """Path: a data set of three scenes, ``images`` and ``labels``.

    Three, so that two processes cannot share them evenly.
    """
    folder = tmp_path_factory.mktemp('scenes')
    for seed, name in enumerate(('a', 'b', 'c')):
        write_scene(folder, name, seed)
    return folder


TINY_CONFIG = """
_base_ = [{runtime!r}]
crop_size = (32, 32)
# Statistics that are good after the few iterations of a test.
norm_cfg = dict(type='SyncBN', requires_grad=True, momentum=0.5)
model = dict(
    type='mmseg_uhr.UHREncoderDecoder',
    data_preprocessor=dict(
        type='mmseg_uhr.UHRDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=crop_size,
    ),
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        base_channels=4,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(0, 1),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=8,
        in_index=1,
        channels=8,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=3,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(
        mode='stream', crop_size=crop_size, stride=(24, 24), batch_size=4
    ),
)
dataset = dict(
    type='mmseg_uhr.UHRDataset',
    data_root={data_root!r},
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    metainfo=dict(
        classes=('red', 'green', 'blue'),
        palette=[[200, 60, 60], [60, 200, 60], [60, 60, 200]],
    ),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **dataset,
        pipeline=[
            dict(type='mmseg_uhr.LoadRaster'),
            dict(type='mmseg_uhr.LoadLabelRaster'),
            dict(
                type='mmseg_uhr.RandomWindow',
                crop_size=crop_size,
                class_balanced=0.5,
            ),
            dict(type='mmseg_uhr.ReadViews'),
            dict(type='mmseg_uhr.RandomD4'),
            dict(type='PhotoMetricDistortion'),
            dict(type='mmseg_uhr.PackUHRInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        pipeline=[
            dict(type='mmseg_uhr.LoadRaster'),
            dict(type='mmseg_uhr.LoadLabelRaster'),
            dict(type='mmseg_uhr.PackUHRInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmseg_uhr.UHRIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.01),
)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=40,
         by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40, val_interval=40)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=20)
)
randomness = dict(seed=0)
"""


@pytest.fixture(scope='session')
def tiny_config(tmp_path_factory, scenes):
    """Path: a complete config, trained in a second: 40 iterations of a tiny
    stock FCN on windows of 32 x 32, tested by streaming."""
    path = tmp_path_factory.mktemp('config') / 'tiny_40i_scenes-32x32.py'
    runtime = ROOT / 'configs' / '_base_' / 'default_runtime.py'
    path.write_text(
        TINY_CONFIG.format(runtime=str(runtime), data_root=str(scenes))
    )
    return path


@pytest.fixture
def tiny_cfg(tiny_config, tmp_path):
    """Config: ``tiny_config``, with a fresh work dir, ready for a Runner."""
    cfg = Config.fromfile(tiny_config)
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = uuid.uuid4().hex
    return cfg


def _run_tool(script: str | Path, *arguments: object) -> None:
    argv = [str(ROOT / 'tools' / script), *map(str, arguments)]
    # Runners in one process would else share a logger and a visualizer, and
    # write into the work dir of the first.
    if '--cfg-options' not in argv:
        argv.append('--cfg-options')
    name = uuid.uuid4().hex
    argv += [f'experiment_name={name}', f'visualizer.name={name}']
    saved = sys.argv
    sys.argv = argv
    try:
        runpy.run_path(argv[0], run_name='__main__')
    finally:
        sys.argv = saved


@pytest.fixture(scope='session')
def run_tool():
    """Callable: ``run_tool(script, *arguments)`` runs a Python tool, a name
    in ``tools/`` or a path, in this process, which spares the start-up."""
    return _run_tool


def _run_script(script, *arguments, cwd):
    """Run a shell script of ours with this Python's torchrun."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = dict(
        os.environ,
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        PORT=str(port),
        OMP_NUM_THREADS='1',
        CUDA_VISIBLE_DEVICES='',
    )
    result = subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.fixture(scope='session')
def run_script():
    """Callable: ``run_script(script, *arguments, cwd)`` runs a shell script
    of ``tools/`` with this Python's torchrun."""
    return _run_script


@pytest.fixture(scope='session')
def trained(tmp_path_factory, tiny_config, run_tool):
    """Path: the work dir of 40 iterations of ``tools/train.py``, with the
    checkpoints ``iter_20.pth`` and ``iter_40.pth``."""
    work_dir = tmp_path_factory.mktemp('trained')
    run_tool('train.py', tiny_config, '--work-dir', work_dir)
    return work_dir


class Golden:
    """Activations of the methods' reference implementations on CPU.

    The weights are random numbers that each parameter's name determines, so
    only names, shapes and results are stored.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def arrays(self, method: str) -> np.lib.npyio.NpzFile:
        """Stored results, by the names of the recipe."""
        return np.load(ROOT / 'tests' / 'golden' / f'{method}.npz')

    def shapes(self, method: str, variant: str = '') -> dict[str, list[int]]:
        """Shapes of all entries of the reference's state dict."""
        name = f'{method}_state_dict{variant}.json'
        return json.loads((ROOT / 'tests' / 'golden' / name).read_text())

    @staticmethod
    def fill(
        shapes: dict[str, list[int]], gain: float = 2.0
    ) -> dict[str, torch.Tensor]:
        """Weights by the recipe: seeded by the checksum of the name."""
        state = {}
        for name, shape in shapes.items():
            leaf = name.split('.')[-1]
            generator = torch.Generator().manual_seed(
                zlib.crc32(name.encode())
            )
            values = torch.randn(shape, generator=generator)
            if leaf == 'num_batches_tracked':
                values = torch.zeros(shape, dtype=torch.int64)
            elif leaf == 'running_var':
                values = 1 + 0.1 * values.abs()
            elif len(shape) > 1:
                values = values * math.sqrt(gain / math.prod(shape[1:]))
            elif leaf == 'weight':
                values = 1 + 0.1 * values
            else:
                values = 0.1 * values
            state[name] = values
        return state

    def convert(
        self, method: str, state: dict[str, torch.Tensor], *options: str
    ) -> dict[str, torch.Tensor]:
        """Run the method's converter on a checkpoint with these weights."""
        source = self.folder / f'{uuid.uuid4().hex}.pth'
        target = self.folder / f'{uuid.uuid4().hex}.pth'
        torch.save(dict(state_dict=state, meta=dict(CLASSES=('a',))), source)
        script = str(ROOT / 'tools' / 'model_converters' / f'{method}.py')
        saved = sys.argv
        sys.argv = [script, str(source), str(target), *options]
        try:
            runpy.run_path(script, run_name='__main__')
        finally:
            sys.argv = saved
        return torch.load(target, weights_only=True)['state_dict']


@pytest.fixture(scope='session')
def build_naive():
    """Callable: ``build_naive(method, num_classes)`` builds the plain version
    of a method that measurements compare with."""
    folder = str(ROOT / 'tools' / 'analysis_tools')

    def build(method: str, num_classes: int = 7) -> torch.nn.Module:
        sys.path.insert(0, folder)
        try:
            module = importlib.import_module(f'naive_builds.{method}')
        finally:
            sys.path.remove(folder)
        return module.build_naive(num_classes).eval()

    return build


@pytest.fixture(scope='session')
def golden(tmp_path_factory):
    """Golden: results of reference implementations, see the class."""
    return Golden(tmp_path_factory.mktemp('golden'))
