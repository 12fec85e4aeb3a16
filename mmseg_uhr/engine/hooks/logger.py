"""Scores of a test, written by one process."""

from mmengine.dist import is_main_process
from mmengine.hooks import LoggerHook as MMEngineLoggerHook
from mmengine.runner import Runner

from ...registry import HOOKS


@HOOKS.register_module()
class LoggerHook(MMEngineLoggerHook):
    """MMEngine's hook, with one writer of a test's scores.

    MMEngine lets all processes write ``<timestamp>/<timestamp>.json`` at the
    same moment. They took different times, so their texts differ in length,
    and what is left may be one's text with the end of another's. Here the
    first process writes.

    Args:
        **kwargs: Those of MMEngine's ``LoggerHook``.
    """

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Log the scores, and write them if this is the first process.

        Args:
            runner (Runner): The runner.
            metrics (dict, optional): Scores by name.
        """
        if is_main_process():
            super().after_test_epoch(runner, metrics)
