"""Several processes that share the scenes of one call.

They meet by PyTorch, which is imported where there are several.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import compat
from ..compat import rank_and_world

if TYPE_CHECKING:
    from torch import Tensor

# For what takes the first process a moment: listing scenes, checking parts.
_TIMEOUT = timedelta(hours=1)
# In what gloo, NCCL and their store say of a process that is gone.
_SIGNS_OF_LOSS = (
    'connection closed',
    'connection reset',
    'gloo',
    'nccl',
    'broken pipe',
    'timed out',
)
_VARIABLES = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')


class RankError(RuntimeError):
    """Another process of the run that failed or vanished."""


@contextmanager
def process_group(launcher: str = 'none') -> Iterator[None]:
    """Meet the other processes of a run, if there are any.

    Processes only agree on who does what, so they meet over gloo, whatever
    they predict on.

    Args:
        launcher (str): ``'none'`` or ``'pytorch'`` (torchrun).

    Raises:
        ValueError: If torchrun's environment is missing.
    """
    if launcher == 'none':
        yield
        return
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ValueError(
            '--launcher pytorch needs the environment of torchrun, but '
            f'{", ".join(missing)} is not set; start with '
            'tools/dist_segment.sh, or leave out --launcher'
        )
    compat.check_stack()
    import torch.distributed as dist

    dist.init_process_group('gloo', timeout=_TIMEOUT)
    try:
        yield
    finally:
        # A thread of gloo that lets go of tensors after Python has gone
        # aborts the process.
        gc.collect()
        dist.destroy_process_group()


@contextmanager
def telling_rank(tool: str, work_dir: str | Path) -> Iterator[None]:
    """Tell which process of a training has failed, and how to go on.

    PyTorch tells those that wait for a lost process about sockets. With one
    process nothing is added to an error.

    Args:
        tool (str): Name of the program.
        work_dir (str | Path): Of the run, with its checkpoints.
    """
    try:
        yield
    except Exception as error:
        rank, world = rank_and_world()
        if world > 1:
            print(
                f'{tool}: rank {rank} of {world}: {_reason(error)}; '
                f'{_way_on(Path(work_dir))}',
                file=sys.stderr,
                flush=True,
            )
        raise


def _reason(error: Exception) -> str:
    """Put an error of a process, or of the way to another one, in words."""
    text = (str(error).strip().splitlines() or [''])[0]
    told = f'{type(error).__name__}: {text}'
    if not isinstance(error, RuntimeError) or not any(
        sign in f'{told} {error}'.lower() for sign in _SIGNS_OF_LOSS
    ):
        return told
    return (
        'no answer from another process: it has failed, was killed or is '
        f'stuck, see what it and the system say ({told})'
    )


def _way_on(work_dir: Path) -> str:
    """Tell what is saved."""
    last = work_dir / 'last_checkpoint'
    if not last.exists():
        return 'there is no checkpoint yet'
    saved = last.read_text().strip()
    return f'the last checkpoint is {saved}: go on with --resume'


def decide_together(decide: Callable[[], Any]) -> Any:
    """Let the first process decide for all.

    Args:
        decide (Callable): Called in the first process only; what it returns
            can be pickled.

    Returns:
        Any: What it returned, in every process.

    Raises:
        Exception: What it raised, in every process.
    """
    rank, world = rank_and_world()
    if world == 1:
        return decide()
    from mmengine.dist import broadcast_object_list

    answer: list[Any] = [None, None]
    if rank == 0:
        try:
            answer[0] = decide()
        except Exception as error:
            answer[1] = error
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def meet(outcome: Any, patience: float) -> list[Any]:
    """Wait until every process is here, and learn how each fared.

    Args:
        outcome (Any): Of this process; can be pickled.
        patience (float): Seconds to wait for one that is alive but slow. One
            that has died is noticed at once.

    Returns:
        list[Any]: The outcomes, by rank.

    Raises:
        RankError: If a process has died or does not come; names it.
    """
    if rank_and_world()[1] == 1:
        return [outcome]
    if lost := _roll_call(patience):
        raise RankError(lost)
    from mmengine.dist import all_gather_object

    return all_gather_object(outcome)


def silent_ranks(patience: float = 5.0) -> str:
    """Find out, while all processes end, which have ended before.

    Args:
        patience (float): Seconds to wait for an answer.

    Returns:
        str: A sentence; empty if all answer.
    """
    return '' if rank_and_world()[1] == 1 else _roll_call(patience)


def _roll_call(patience: float) -> str:
    """Wait for all processes; return a sentence about those that are lost.

    ``monitored_barrier`` does not name a process that died before it.
    """
    import torch

    rank, world = rank_and_world()
    lost = torch.zeros(world, dtype=torch.uint8)
    if rank > 0:
        if not (_send(lost, 0) and _receive(lost, 0, patience)):
            lost[0] = 1
    else:
        for other in range(1, world):
            lost[other] = not _receive(torch.empty_like(lost), other, patience)
        for other in range(1, world):
            if not lost[other]:
                _send(lost, other)
    if not lost.any():
        return ''
    names = ', '.join(str(i) for i in range(world) if lost[i])
    return (
        f'no answer from rank {names} of {world}: it has died (killed for '
        'its memory, perhaps), or is stuck'
    )


def _send(message: 'Tensor', rank: int) -> bool:
    """Send to a process; tell whether it lives."""
    import torch.distributed as dist

    try:
        dist.send(message, rank)
    except RuntimeError:
        return False
    return True


def _receive(message: 'Tensor', rank: int, patience: float) -> bool:
    """Receive from a process; tell whether it has sent in time."""
    import torch.distributed as dist

    try:
        return dist.irecv(message, rank).wait(timedelta(seconds=patience))
    except RuntimeError:
        return False
