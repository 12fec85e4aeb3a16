"""Predicting with less memory once it runs out."""

from collections.abc import Callable, Iterator

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..tiling import Window
from .batch import WindowBatch

# What CPU allocators say, in errors of no type of their own.
_CPU_WORDS = ("can't allocate memory", 'not enough memory')


class WindowTooLargeError(RuntimeError):
    """A single window that does not fit into the memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out.

    Args:
        error (BaseException): Of a forward pass.

    Returns:
        bool: True for those of CUDA, of PyTorch's CPU allocator and of
        Python.
    """
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in _CPU_WORDS
    )


class CarefulPredictor:
    """Predicts batches of windows; halves them while memory does not suffice.

    The halved size stays, so that the error, which costs a forward pass, is
    met once. Results do not depend on it, except for rounding.

    Args:
        predict (Callable): Logits (n, C, h, w) of a batch of n windows.
        make_room (Callable): Called when memory does not suffice for one
            window; True if it freed some.
    """

    def __init__(
        self,
        predict: Callable[[WindowBatch], Tensor],
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self._predict = predict
        self._make_room = make_room
        self._limit: int | None = None

    def __call__(self, batch: WindowBatch) -> Iterator[tuple[Window, Tensor]]:
        """Predict a batch.

        Args:
            batch (WindowBatch): Any number of windows.

        Yields:
            tuple[Window, Tensor]: Each window and its logits (C, h, w), in
            order.

        Raises:
            WindowTooLargeError: If memory does not suffice for one window.
        """
        done = 0
        while done < len(batch.windows):
            part = batch.part(done, self._limit)
            logits = self._try(part)
            if logits is not None:
                yield from zip(part.windows, logits, strict=True)
                done += len(part.windows)
            elif torch.cuda.is_available():
                # Only now: the error held what had been made.
                torch.cuda.empty_cache()

    def _try(self, batch: WindowBatch) -> Tensor | None:
        """Predict a batch; None if memory ran out and less may do."""
        try:
            with torch.no_grad():
                return self._predict(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            count, window = len(batch.windows), batch.windows[0]
            if count == 1 and self._make_room():
                print_log(
                    f'Memory does not suffice for a window of {window.h} x '
                    f'{window.w} pixels ({_first_line(error)}): sums of '
                    'logits are kept on the host from now on.',
                    logger='current',
                    level=30,
                )
                return None
            if count == 1:
                raise WindowTooLargeError(
                    f'memory does not suffice for one window of {window.h} x '
                    f'{window.w} pixels ({_first_line(error)}); lower '
                    'test_cfg.crop_size and test_cfg.stride'
                ) from error
            self._limit = (count + 1) // 2
            print_log(
                f'Memory does not suffice for {count} windows of {window.h} x '
                f'{window.w} pixels at a time ({_first_line(error)}); going '
                f'on with {self._limit}. Set test_cfg.batch_size to that.',
                logger='current',
                level=30,
            )
            return None


def _first_line(error: BaseException) -> str:
    """Return the beginning of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
