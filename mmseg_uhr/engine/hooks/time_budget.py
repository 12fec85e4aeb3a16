"""Training for a given time instead of a given number of iterations."""

import math
import time

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...registry import HOOKS

_ELAPSED = 'time_budget_elapsed'
# Until some iterations have been timed, their number is a guess.
_FIRST_GUESS = 100
_CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


@HOOKS.register_module()
class TimeBudgetHook(Hook):
    """Train for a number of minutes instead of iterations.

    So models of different cost compare at equal time. The learning rate
    follows the clock as well: a linear warm-up, then the usual polynomial
    decay to zero at the end of the budget; use it without ``param_scheduler``.
    ``max_iters`` of the loop is kept at the number of iterations that will
    fit, so that the estimated end in the log, the last checkpoint and the
    last validation are right. Validation does not count. Resuming goes on
    with the time that is left.

    Args:
        minutes (float): Time for training iterations, data loading included.
        power (float): Of the polynomial decay. Defaults to 0.9.
        warmup (float): Share of the time to warm up in. Defaults to 0.05.
        clock (str): ``'wall'``, or ``'cpu'``: the time that the processors
            spend on the training process, all its threads, without loading.
            Other programs on the machine do not count; a device's work does
            not either. Defaults to ``'wall'``.

    Raises:
        ValueError: If the time is not positive, the warm-up not a share or
            the clock unknown.
    """

    # Before the hooks that log the rate or ask for the last iteration.
    priority = 'HIGHEST'

    def __init__(
        self,
        minutes: float,
        power: float = 0.9,
        warmup: float = 0.05,
        clock: str = 'wall',
    ) -> None:
        if not minutes > 0:
            raise ValueError(f'minutes={minutes}: expected more than 0')
        if not 0 <= warmup < 1:
            raise ValueError(f'warmup={warmup}: expected a share below 1')
        if clock not in _CLOCKS:
            raise ValueError(
                f'clock={clock!r}: expected one of {tuple(_CLOCKS)}'
            )
        self._now = _CLOCKS[clock]
        self.budget = 60 * minutes
        self.power = power
        self.warmup = warmup
        self.elapsed = 0.0
        self._first_iter = 0
        self._first_elapsed = self._clock = 0.0

    def before_train(self, runner: Runner) -> None:
        """Take up the time that a resumed run has used."""
        hub = runner.message_hub
        if _ELAPSED in hub.runtime_info:
            self.elapsed = hub.get_info(_ELAPSED)
        self._first_iter, self._first_elapsed = runner.iter, self.elapsed
        for group in runner.optim_wrapper.param_groups:
            group.setdefault('initial_lr', group['lr'])
        self._set_max_iters(runner, runner.iter + _FIRST_GUESS)
        self._clock = self._now()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the learning rates for the time that has passed."""
        progress = min(self.elapsed / self.budget, 1.0)
        factor = (1 - progress) ** self.power
        if progress < self.warmup:
            # The very first iteration must learn something, too.
            factor *= max(progress / self.warmup, 0.01)
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = group['initial_lr'] * factor

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Count the time and foresee the last iteration."""
        now = self._now()
        elapsed = [self.elapsed + now - self._clock]
        # All ranks must stop together: the first one's clock counts.
        broadcast_object_list(elapsed)
        self.elapsed, self._clock = elapsed[0], now
        runner.message_hub.update_info(_ELAPSED, self.elapsed)
        done = runner.iter + 1 - self._first_iter
        per_iter = (self.elapsed - self._first_elapsed) / done
        left = max(self.budget - self.elapsed, 0) / per_iter
        self._set_max_iters(runner, runner.iter + 1 + math.ceil(left))

    def after_val(self, runner: Runner) -> None:
        """Leave the time of validation out."""
        self._clock = self._now()

    @staticmethod
    def _set_max_iters(runner: Runner, max_iters: int) -> None:
        """Tell the loop, and those that ask the message hub."""
        runner.train_loop._max_iters = max_iters
        runner.message_hub.update_info('max_iters', max_iters)
