"""One measurement of one network; `benchmark.py` runs this as a script."""

import argparse
import gc
import json
import logging
import os
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn
from torch.profiler import ProfilerActivity, profile

import mmseg_uhr  # noqa: F401  registers the types that configs name
from mmseg_uhr.apis import init_segmentor
from mmseg_uhr.memory import Meter, model_cost, plan_memory
from mmseg_uhr.memory.inputs import make_inputs
from mmseg_uhr.memory.trial import PRECISIONS
from mmseg_uhr.models.segmentors import Execution
from mmseg_uhr.models.segmentors.budget import bytes_beyond, plan_windows
from mmseg_uhr.streaming import StreamSettings
from mmseg_uhr.streaming.fit import band_bytes
from mmseg_uhr.streaming.out_of_memory import is_out_of_memory
from mmseg_uhr.tiling import Window
from mmseg_uhr.tiling.views import LOCAL

_MIB = 2**20
_OWN = 'nvidia-smi, this process'


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        config (str): File.
        size (tuple[int, int]): ``(H, W)`` of the image, pixels.
        batch_size (int): Images, or windows of a stream, at a time.
        precision (str): ``'fp32'``, ``'fp16'`` or ``'bf16'``.
        mode (str): ``'whole'``: the forward pass of the image up to logits
            of its size; ``'stream'``: from pixels in memory to class ids.
        device (str): Such as ``'cuda:0'``.
        threads (int): Of the CPU.
        warmup (int): Predictions before those that count.
        runs (int): Predictions that count.
    """

    config: str
    size: tuple[int, int]
    batch_size: int
    precision: str
    mode: str
    device: str
    threads: int
    warmup: int
    runs: int


def build(job: Job, weights: Path, precision: str) -> nn.Module:
    """Build the network with random weights, on its device.

    Args:
        job (Job): Says which.
        weights (Path): File for the weights of a stream, which is built as
            for a checkpoint.
        precision (str): Of a stream.

    Returns:
        nn.Module: As configured, or a segmentor that streams.
    """
    cfg = Config.fromfile(job.config)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(cfg.model, pretrained=None))
    if job.mode == 'stream':
        torch.save(dict(state_dict=model.state_dict()), weights)
        del model
        cfg.model.test_cfg = ConfigDict(
            cfg.model.get('test_cfg') or {}, batch_size=job.batch_size
        )
        model = init_segmentor(cfg, weights, job.device, precision=precision)
        weights.unlink()
    return revert_sync_batchnorm(model).to(job.device).eval()


def channels_of(model: nn.Module) -> int:
    """Return the number of channels that the network sees."""
    mean = getattr(model.data_preprocessor, 'mean', None)
    return 3 if mean is None else len(mean)


def seen_size(model: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size at which the network sees an image, pixels."""
    views = getattr(model, 'views', None)
    return views[LOCAL].size_of(Window(0, 0, *size)) if views else size


def measure_cost(job: Job, model: nn.Module) -> dict[str, Any]:
    """Tell what can be told on fake tensors.

    Returns:
        dict: Parameters in millions; GMACs per image, all its windows; live
        activations and planned memory of a batch, MiB. These are ``None``,
        and ``notes`` tell why, where the network cannot run so.
    """
    auxiliary = getattr(model, 'auxiliary_head', None)
    window, windows, images = job.size, 1, job.batch_size
    if job.mode == 'stream':
        tiles = StreamSettings.from_test_cfg(model.test_cfg).plan(job.size)
        window, windows = tiles.window_size, len(tiles)
        images = min(job.batch_size, windows)
    seen = seen_size(model, window)
    found: dict[str, Any] = dict(
        seen=seen,
        windows=windows,
        classes=getattr(model, 'num_classes', None),
        parameters_m=_count(model) / 1e6,
        training_m=0.0 if auxiliary is None else _count(auxiliary) / 1e6,
    )
    dtype = PRECISIONS[job.precision]
    try:
        with torch.autocast('cpu', dtype, enabled=dtype is not None):
            cost = model_cost(model, seen, images, channels_of(model))
        planned, reason = _plan(job, model, window, images)
    except Exception as error:
        return dict(
            found,
            gmacs=None,
            activations_mib=None,
            planned_mib=None,
            notes=[f'no cost and no plan: {_one_line(error)}'],
        )
    return dict(
        found,
        gmacs=cost.gmacs * windows / images,
        activations_mib=cost.peak_mib,
        planned_mib=planned / _MIB,
        notes=[f'planned: {reason}'] if reason else [],
    )


def _plan(
    job: Job, model: nn.Module, window: tuple[int, int], images: int
) -> tuple[int, str]:
    """Return the planned bytes of a batch, and why they are a guess."""
    channels = channels_of(model)
    if job.mode != 'stream':
        plan = plan_memory(
            model,
            seen_size(model, window),
            images,
            precision=job.precision,
            channels=channels,
        )
        return plan.total, plan.reason
    settings = replace(
        StreamSettings.from_test_cfg(model.test_cfg), batch_size=images
    )
    plan = plan_windows(model, settings, window, channels, job.precision)
    need = plan.total
    need += bytes_beyond(plan, model, settings, window, job.size, channels)
    if settings.accumulate_on == 'device':
        need += band_bytes(settings, job.size, model.out_channels)
    return need, plan.reason


def measure_run(job: Job, model: nn.Module) -> dict[str, Any]:
    """Predict, and tell what it took.

    Returns:
        dict: Lists ``seconds`` and ``cpu_seconds`` of predictions; MiB:
        ``added_mib`` to the process by all predictions, ``process_mib``, the
        whole process on the device, ``allocated_mib`` by PyTorch with
        weights and input, ``reserved_mib`` of a GPU.
    """
    predict, given = _prepare(job, model)
    on_gpu = torch.device(job.device).type == 'cuda'
    with Meter() as meter:
        spent = [_time(predict, on_gpu) for _ in range(job.warmup + job.runs)][
            job.warmup :
        ]
    found: dict[str, Any] = dict(
        seconds=[wall for wall, _ in spent],
        cpu_seconds=[cpu for _, cpu in spent],
        added_mib=meter.host_mib,
    )
    if on_gpu:
        process, scope = _device_process_mib()
        alone = scope == _OWN
        return dict(
            found,
            notes=[] if alone else [f'whole process: {scope}'],
            allocated_mib=meter.device_mib,
            reserved_mib=torch.cuda.max_memory_reserved() / _MIB,
            process_mib=process,
            process_scope=scope,
        )
    # Only now: the profiler needs memory, too.
    held = [*model.parameters(), *model.buffers()]
    bytes_held = given + sum(tensor.nbytes for tensor in held)
    return dict(
        found,
        allocated_mib=(_allocated(predict) + bytes_held) / _MIB,
        reserved_mib=None,
        process_mib=meter.process_mib,
        process_scope='resident set of the process',
        notes=[],
    )


def _prepare(job: Job, model: nn.Module) -> tuple[Callable[[], None], int]:
    """Make an image; return what predicts it, and the bytes of tensors."""
    channels = channels_of(model)
    if job.mode == 'stream':
        scene = torch.randint(
            0, 256, (*job.size, channels), dtype=torch.uint8
        ).numpy()

        def predict() -> None:
            for _ in model.stream(scene):
                pass

        return predict, 0
    execution = Execution(model, job.precision)
    inputs, meta = make_inputs(
        model,
        seen_size(model, job.size),
        job.batch_size,
        channels,
        next(model.parameters()),
    )
    views = inputs.values() if isinstance(inputs, dict) else [inputs]
    for view in views:
        view.normal_()

    @torch.no_grad()
    def predict() -> None:
        metas = [dict(meta) for _ in range(job.batch_size)]
        execution(model, inputs, metas)

    return predict, sum(view.nbytes for view in views)


def _time(predict: Callable[[], None], on_gpu: bool) -> tuple[float, float]:
    """Return wall and CPU seconds of a prediction."""
    cpu, wall = time.process_time(), time.perf_counter()
    predict()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def _allocated(predict: Callable[[], None]) -> int:
    """Return the peak of bytes that PyTorch allocates on the CPU."""
    gc.collect()
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        predict()
    events = sorted(
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == '[memory]'
    )
    now = peak = 0
    for _, size in events:
        now += size
        peak = max(peak, now)
    return peak


def _device_process_mib() -> tuple[float, str]:
    """Return what this process has of the GPU, and what was looked at."""
    try:
        listed = subprocess.run(
            [
                'nvidia-smi',
                '--query-compute-apps=pid,used_memory',
                '--format=csv,noheader,nounits',
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        used = dict(line.split(', ') for line in listed.strip().splitlines())
        return float(used[str(os.getpid())]), _OWN
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError):
        # Containers hide the numbers of processes.
        free, total = torch.cuda.mem_get_info()
        return (total - free) / _MIB, 'all processes on the GPU'


class _Notes(logging.Handler):
    """Keeps warnings, such as of a stream that goes on with less."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning once."""
        line = ' '.join(record.getMessage().split())
        if line not in self.lines:
            self.lines.append(line)


def _count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _one_line(error: Exception) -> str:
    """Return an error as one line."""
    lines = str(error).strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0]}'


def main() -> None:
    """Measure one job and write what was found, or the problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('kind', choices=('cost', 'run'))
    parser.add_argument('job', help='its fields as JSON')
    parser.add_argument('out', type=Path)
    args = parser.parse_args()
    job = Job(**json.loads(args.job))
    job = Job(**dict(asdict(job), size=tuple(job.size)))
    torch.set_num_threads(job.threads)
    if torch.device(job.device).type == 'cuda':
        torch.cuda.set_device(job.device)
    is_cost = args.kind == 'cost'
    measure = measure_cost if is_cost else measure_run
    try:
        # The cost of half precision is told on a CPU, which cannot do it.
        precision = 'fp32' if is_cost else job.precision
        model = build(job, args.out.with_suffix('.pth'), precision)
        warnings = _Notes()
        MMLogger.get_current_instance().addHandler(warnings)
        found = measure(job, model)
        found['notes'] += warnings.lines
    except Exception as error:
        problem = _one_line(error)
        if is_out_of_memory(error):
            problem = f'out of memory: {problem}'
        found = dict(problem=problem, traceback=traceback.format_exc())
    args.out.write_text(json.dumps(found))


if __name__ == '__main__':
    main()
