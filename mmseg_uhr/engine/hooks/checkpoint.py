"""Checkpoints that are there whole or not at all."""

import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.fileio import BaseStorageBackend, LocalBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from ...registry import HOOKS
from ...streaming.part_file import replacing

_PART = '.part'


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's hook, for runs that may die at any moment.

    MMEngine writes into the final file, and removes older checkpoints first:
    a process that is killed meanwhile leaves half a file, or none. Here a
    checkpoint is written as ``<name>.part`` and gets its name once it is on
    the disk; then ``last_checkpoint``, which ``--resume`` reads, names it;
    then older ones are removed. Checkpoints of sharded training, which are
    folders, are treated alike. In a remote ``out_dir`` they are written under
    their own name.

    Args:
        **kwargs: Those of MMEngine's ``CheckpointHook``.
    """

    def before_train(self, runner: Runner) -> None:
        """Let the runner save under another name first.

        Args:
            runner (Runner): The runner.
        """
        super().before_train(runner)
        if not isinstance(self.file_backend, LocalBackend):
            return
        if is_main_process():
            # What a run has left that was killed while it saved.
            for left in Path(self.out_dir).glob(f'*{_PART}'):
                _remove(left)
        # Also what other hooks save.
        runner.save_checkpoint = _renaming(runner.save_checkpoint)

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        """Save, tell where, remove what is outdated; in this order."""
        name = self.filename_tmpl.format(step)
        outdated = self._make_room(runner, step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        with replacing(Path(runner.work_dir, 'last_checkpoint')) as part:
            part.write_text(self.last_ckpt)
        for old in outdated:
            path = self.file_backend.join_path(
                self.out_dir, self.filename_tmpl.format(old)
            )
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):
                self.file_backend.rmtree(path)

    def _make_room(self, runner: Runner, step: int) -> list[int]:
        """Note a step; return those that ``max_keep_ckpts`` excludes."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return []
        full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
        outdated = [self.keep_ckpt_ids[0]] if full else []
        # A deque of that length: the oldest one drops out.
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info(
            'keep_ckpt_ids', list(self.keep_ckpt_ids)
        )
        return outdated

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save what is best; the best one so far goes afterwards."""
        backend = self.file_backend
        self.file_backend = late = _LateRemovals(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        for remove, path in late.removals:
            remove(path)


class _LateRemovals:
    """A storage backend that only notes what is to be removed."""

    def __init__(self, backend: BaseStorageBackend) -> None:
        self._backend = backend
        self.removals: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.removals.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.removals.append((self._backend.rmtree, path))


def _renaming(save: Callable[..., None]) -> Callable[..., None]:
    """Make ``Runner.save_checkpoint`` write under another name first."""

    @functools.wraps(save)
    def renaming(out_dir: str, filename: str, *args: Any, **kwargs: Any):
        part = Path(out_dir, filename + _PART)
        try:
            save(out_dir, part.name, *args, **kwargs)
        except Exception:
            # A full disk, for example.
            if is_main_process():
                _remove(part)
            raise
        if part.is_dir():
            # All processes have to write their shard before it counts.
            barrier()
        if is_main_process():
            _publish(part, Path(out_dir, filename))

    return renaming


def _publish(part: Path, path: Path) -> None:
    """Give what is written its name, once it is on the disk."""
    files = [one for one in (part, *part.rglob('*')) if one.is_file()]
    for one in files:
        with open(one, 'rb') as file:
            os.fsync(file.fileno())
    if path.is_dir():
        # Folders cannot be replaced at once.
        _remove(path)
    os.replace(part, path)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
