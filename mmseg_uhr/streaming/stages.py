"""Stages that work at the same time, each in a thread of its own."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar('Item')
_END = object()


def prefetch(items: Iterable[Item], depth: int = 2) -> Iterator[Item]:
    """Make the next items in a thread while the current one is in use.

    An exception in the thread is raised here, in place of its item.

    Args:
        items (Iterable): Made one after the other.
        depth (int): How many are made ahead, at most. Defaults to 2.

    Yields:
        Item: In order.
    """
    iterator = iter(items)
    maker = ThreadPoolExecutor(max_workers=1)
    try:
        ahead = deque(maker.submit(next, iterator, _END) for _ in range(depth))
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(maker.submit(next, iterator, _END))
            yield item
    finally:
        maker.shutdown(cancel_futures=True)


class WriteBehind:
    """Calls functions in order in a thread, while the caller goes on.

    Used as a context manager; leaving it waits for all calls. If one fails,
    those after it are not made, and its exception is raised by the next
    :meth:`call` or on leaving.

    Args:
        depth (int): How many calls may wait; more make the caller wait.
            Defaults to 2.
    """

    def __init__(self, depth: int = 2) -> None:
        self._depth = depth
        self._waiting: deque[Future] = deque()
        self._failed = False

    def __enter__(self) -> 'WriteBehind':
        self._thread = ThreadPoolExecutor(max_workers=1)
        return self

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function later.

        Args:
            function (Callable): Called in the thread.
            *args: Its arguments, which must not change any more.
        """
        while len(self._waiting) > self._depth:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._run, function, *args))

    def _run(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function unless an earlier one failed."""
        if self._failed:
            return
        try:
            function(*args)
        except BaseException:
            self._failed = True
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What has been handed over is done even if the caller failed: it is
        # finished work.
        self._thread.shutdown(wait=True)
        if kind is None:
            for future in self._waiting:
                future.result()
