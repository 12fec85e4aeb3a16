"""How far a call has come."""

from collections.abc import Callable
from types import TracebackType
from typing import Union

from tqdm import tqdm

from ..compat import rank_and_world

#: A bar or none, or what to call with pixels done and pixels in all.
ProgressLike = Union[bool, Callable[[int, int], None]]


class Progress:
    """Shows or reports the pixels that are done; a context manager.

    Args:
        wanted (bool | Callable): A bar, in the first process; none; or what
            to call with pixels done and pixels in all.
        total (int): Pixels in all.
        title (str): What the bar is about.
        done (int): Pixels that an earlier run has done.
    """

    def __init__(
        self, wanted: ProgressLike, total: int, title: str, done: int = 0
    ) -> None:
        self.total, self.done = total, done
        self._call = wanted if callable(wanted) else None
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=title,
            disable=wanted is not True or rank_and_world()[0] > 0,
            unit_scale=1e-6,
            bar_format='{l_bar}{bar}| {n:.1f}/{total:.1f} MP '
            '[{elapsed}<{remaining}]',
        )

    def add(self, pixels: int) -> None:
        """Count pixels.

        Args:
            pixels (int): Done since the last time.
        """
        self.done += pixels
        self._bar.update(pixels)
        if self._call is not None:
            self._call(self.done, self.total)

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
