"""A budget of memory: planned before training, watched while it runs."""

import functools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ...memory import MemoryPlan, parse_budget, total_memory
from ...memory.process import ProcessMemory
from ...planning import Planner, config_lines
from ...registry import HOOKS
from ...streaming.out_of_memory import is_out_of_memory
from ...streaming.part_file import replacing

POLICIES = ('warn', 'cap', 'fit')
_MIB = 2**20
# Budgets are read before the device is known.
_ANY_DEVICE = 2**62
_BATCH = 'memory_budget_batch'
# Where a step did not fit that was planned to fit: the plan's share that may.
_LESS = 0.75


class OverBudgetError(ValueError):
    """A run that needs, or has taken, more memory than its budget."""


class TrainingMemoryError(RuntimeError):
    """Memory that ran out in training, with what is known about it."""


@HOOKS.register_module()
class MemoryBudgetHook(Hook):
    """Hold a run in a budget of memory.

    Before the first iteration the training step is planned on fake tensors,
    see :func:`~mmseg_uhr.memory.plan_memory`, and compared with the budget.
    Peaks of each phase go to the logs and visualizer backends, in MiB:
    ``memory_process``, on GPUs also ``memory_reserved`` and, where MMEngine
    does not print it as ``memory``, ``memory_allocated``. If memory runs out
    in training all the same, the error tells the module, the largest tensors
    planned and what would fit.

    On a CPU the budget is one of the whole process, with Python and its
    libraries; ``'fit'``, which must give the same in all processes, counts
    tensors alone. On GPUs it is one of PyTorch's allocator: the CUDA context
    comes on top.

    Args:
        budget (str | int | float): ``'8GiB'``, bytes, or a share of the
            device's memory, see :func:`~mmseg_uhr.memory.parse_budget`. Of
            each process.
        policy (str): What happens over budget. ``'warn'``: the log says what
            would fit. ``'cap'``: a plan over budget is an error before any
            work; a GPU hands out no more than the budget; on a CPU the run
            ends, with a checkpoint, once the process takes more.
            ``'fit'``: :func:`~mmseg_uhr.apis.fit_config` has changed the
            config before the Runner was built; if it has not, an error says
            so. Defaults to ``'warn'``.

    Raises:
        ValueError: If budget or policy make no sense.
    """

    # Before the hooks that print.
    priority = 'HIGH'

    def __init__(
        self, budget: Union[str, int, float], policy: str = 'warn'
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(
                f'MemoryBudgetHook: policy={policy!r}: expected one of '
                f'{POLICIES}'
            )
        parse_budget(budget, _ANY_DEVICE)
        self.budget, self.policy = budget, policy
        self._process = ProcessMemory()
        self._peaks: dict[str, int] = defaultdict(int)
        self._plan: MemoryPlan | None = None

    def before_run(self, runner: Runner) -> None:
        """Read the budget of the model's device, and cap a GPU."""
        self._device = next(runner.model.parameters()).device
        total = total_memory(self._device)
        self._limit = parse_budget(self.budget, total)
        if self.policy == 'cap' and self._on_gpu:
            torch.cuda.set_per_process_memory_fraction(
                self._limit / total, self._device
            )

    def after_run(self, runner: Runner) -> None:
        """Let later runs of this process have all memory."""
        if self.policy == 'cap' and self._on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0, self._device)

    def before_train(self, runner: Runner) -> None:
        """Compare the plan with the budget; be ready to explain errors."""
        self._check_batches(runner)
        self._check_plan(runner)
        self._explain_errors(runner)
        self._begin()

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        runner.model.train_step = self._train_step

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """End a capped run on a CPU once the process takes too much.

        Here, when all hooks have done their work of the last iteration.
        """
        if self.policy != 'cap' or self._on_gpu or not runner.iter:
            return
        # Also what hooks have taken since the iteration.
        taken = torch.tensor(
            max(self._peaks['train/process'], self._process.peak())
        )
        # All processes end together.
        all_reduce(taken, 'max')
        if taken > self._limit:
            raise OverBudgetError(
                f'MemoryBudgetHook: the process has taken '
                f'{taken / _MIB:.0f} MiB in training, the budget is '
                f'{self._limit / _MIB:.0f} MiB. All {runner.iter} iterations '
                f'are in {_saved(runner)}; resume with a higher budget, or '
                f'with less to do. {self._proposal(runner)}'
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Note the peaks of training."""
        self._note(runner, 'train')

    def before_val(self, runner: Runner) -> None:
        """Give what training has cached to validation."""
        self._empty_cache()
        self._begin()

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: list | None = None,
    ) -> None:
        """Note the peaks of validation."""
        self._note(runner, 'val')

    def after_val(self, runner: Runner) -> None:
        """Give what validation has cached to training."""
        self._empty_cache()
        self._begin()

    def before_test(self, runner: Runner) -> None:
        """Begin to measure."""
        self._begin()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: list | None = None,
    ) -> None:
        """Note the peaks of a test."""
        self._note(runner, 'test')

    # Peaks

    @property
    def _on_gpu(self) -> bool:
        """bool: Whether the device's memory is not the process's."""
        return self._device.type == 'cuda'

    def _begin(self) -> None:
        """Forget the peaks of another phase."""
        self._process.reset()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)

    def _note(self, runner: Runner, phase: str) -> None:
        """Hand the peaks so far to the message hub."""
        found = dict(process=self._process.peak())
        if self._on_gpu:
            # MMEngine starts anew with each line that it logs.
            found['reserved'] = torch.cuda.max_memory_reserved(self._device)
            if phase != 'train':
                found['allocated'] = torch.cuda.max_memory_allocated(
                    self._device
                )
        for name, size in found.items():
            key = f'{phase}/{name}'
            self._peaks[key] = max(self._peaks[key], size)
            runner.message_hub.update_scalar(
                f'{phase}/memory_{name}', self._peaks[key] // _MIB
            )

    def _empty_cache(self) -> None:
        """Free what the allocator keeps for tensors of other sizes."""
        if self._on_gpu:
            torch.cuda.empty_cache()

    # The plan

    def _check_batches(self, runner: Runner) -> None:
        """Refuse to resume a fitted run that was fitted otherwise."""
        if self.policy != 'fit':
            return
        batch = [
            runner.train_dataloader.batch_size,
            getattr(runner.optim_wrapper, '_accumulative_counts', 1),
        ]
        hub = runner.message_hub
        before = hub.runtime_info.get(_BATCH, batch)
        if list(before) != batch:
            raise OverBudgetError(
                f'MemoryBudgetHook: the checkpoint is of batches of '
                f'{before[0]}, {before[1]} per step, this run of {batch[0]}, '
                f'{batch[1]} per step: its iterations are others. Resume '
                'with the same budget on such a device as before'
            )
        hub.update_info(_BATCH, batch)

    def _check_plan(self, runner: Runner) -> None:
        """Log the plan of a step, and act if it exceeds the budget."""
        try:
            with _same_random_numbers():
                self._plan = self._planner(runner).plan()
        except Exception as error:
            # A plan is a service; the run itself may well be right.
            if self.policy == 'fit':
                raise
            runner.logger.warning(
                'MemoryBudgetHook: the training step cannot be planned '
                f'({type(error).__name__}: {error})'
            )
            return
        itself = self._itself(runner)
        need = self._plan.total + itself
        where = (
            f', with the process itself, {itself / _MIB:.0f} MiB,'
            if itself
            else ''
        )
        runner.logger.info(
            f'MemoryBudgetHook: plan of a step, each process:\n{self._plan}'
        )
        text = (
            f'MemoryBudgetHook: a training step needs{where} about '
            f'{need / _MIB:.0f} MiB, the budget is '
            f'{self._limit / _MIB:.0f} MiB'
        )
        if self.policy == 'fit' and self._plan.total > self._limit:
            raise OverBudgetError(
                f'{text}: this config is not fitted. Start with '
                'tools/train.py, or call mmseg_uhr.apis.fit_config(cfg) '
                'before the Runner is built'
            )
        if need <= self._limit:
            runner.logger.info(text)
            return
        text = f'{text}. {self._proposal(runner)}'
        if self.policy == 'cap':
            raise OverBudgetError(text)
        runner.logger.warning(text)

    def _itself(self, runner: Runner) -> int:
        """Return what a process on a CPU has taken besides the model."""
        if self._on_gpu:
            return 0
        model = sum(
            tensor.nbytes
            for tensor in (
                *runner.model.parameters(),
                *runner.model.buffers(),
            )
        )
        return max(self._process.now() - model, 0)

    def _proposal(self, runner: Runner) -> str:
        """Say what would fit, as lines of a config."""
        limit = self._limit - self._itself(runner)
        if self._plan is not None and self._plan.total <= limit:
            limit = int(_LESS * self._plan.total)
        if limit <= 0:
            return 'The process itself takes more than that'
        try:
            with _same_random_numbers():
                planned = self._planner(runner).fit(limit)
        except Exception as error:
            # Of a model that cannot be planned, or no memory even for this.
            return (
                f'Nothing that fits {limit / _MIB:.0f} MiB is known: {error}'
            )
        return '\n'.join(
            [
                f'What fits {limit / _MIB:.0f} MiB '
                f'({"; ".join(planned.notes)}):',
                *config_lines(planned.changes),
            ]
        )

    def _planner(self, runner: Runner) -> Planner:
        """Return a planner of this run's training."""
        return Planner(runner.cfg, 'train')

    # Errors

    def _explain_errors(self, runner: Runner) -> None:
        """Let the step of the model tell what is known if memory runs out."""
        self._train_step = step = runner.model.train_step

        @functools.wraps(step)
        def explained(*args: Any, **kwargs: Any) -> Any:
            try:
                return step(*args, **kwargs)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise TrainingMemoryError(
                    self._explanation(runner, error)
                ) from error

        runner.model.train_step = explained

    def _explanation(self, runner: Runner, error: Exception) -> str:
        """Tell where memory ran out, what was planned and what would fit."""
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        parts = [
            f'memory ran out in {_place_of(error, runner.model)} ({reason})'
        ]
        if self._plan is not None:
            parts.append(f'Planned: {self._plan}')
        parts.append(self._proposal(runner))
        return '\n'.join(parts)


def _place_of(error: BaseException, model: nn.Module) -> str:
    """Name the innermost module of a model that an error passed."""
    names = {id(module): name for name, module in model.named_modules()}
    found, trace = '', error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get('self')
        found = names.get(id(owner)) or found
        trace = trace.tb_next
    return found or 'the backward pass or the optimizer step'


def _saved(runner: Runner) -> Path:
    """Save a checkpoint if the last iteration has none; return its path."""
    path = Path(runner.work_dir, f'iter_{runner.iter}.pth')
    if not path.exists():
        runner.save_checkpoint(
            runner.work_dir,
            path.name,
            meta=dict(epoch=runner.epoch, iter=runner.iter),
            by_epoch=False,
        )
        if is_main_process():
            # What --resume looks for.
            with replacing(path.with_name('last_checkpoint')) as part:
                part.write_text(str(path))
    return path


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Leave the run's random numbers as they are without the hook."""
    with torch.random.fork_rng(devices=[]):
        yield
