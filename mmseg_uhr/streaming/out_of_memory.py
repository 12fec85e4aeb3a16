"""Predicting with less memory once it runs out."""

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext

from .. import compat
from ..tiling import Window
from ..tiling.arrays import ArrayLike, loaded_torch
from .batch import WindowBatch

# What PyTorch's CPU allocators say, in errors of no type of their own.
_CPU_WORDS = ("can't allocate memory", 'not enough memory')
# And what onnxruntime says, in some of its many types.
_RUNTIME_WORDS = ('Failed to allocate memory', 'bad_alloc', 'bad allocation')


class WindowTooLargeError(RuntimeError):
    """A single window that does not fit into the memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out.

    Args:
        error (BaseException): Of a forward pass.

    Returns:
        bool: True for those of CUDA, of PyTorch's CPU allocator, of Python
        and of onnxruntime.
    """
    torch = loaded_torch()
    if isinstance(error, MemoryError) or (
        torch and isinstance(error, torch.cuda.OutOfMemoryError)
    ):
        return True
    words = ()
    if isinstance(error, RuntimeError):
        words = _CPU_WORDS
    elif type(error).__module__.startswith('onnxruntime.'):
        words = _RUNTIME_WORDS
    return any(one in str(error) for one in words)


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
        predict: Callable[[WindowBatch], ArrayLike],
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self._predict = predict
        self._make_room = make_room
        self._limit: int | None = None

    def __call__(
        self, batch: WindowBatch
    ) -> Iterator[tuple[Window, ArrayLike]]:
        """Predict a batch.

        Args:
            batch (WindowBatch): Any number of windows.

        Yields:
            tuple[Window, ArrayLike]: Each window and its logits (C, h, w), in
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
            elif (torch := loaded_torch()) and torch.cuda.is_available():
                # Only now: the error held what had been made.
                torch.cuda.empty_cache()

    def _try(self, batch: WindowBatch) -> ArrayLike | None:
        """Predict a batch; None if memory ran out and less may do."""
        torch = loaded_torch()
        try:
            with torch.no_grad() if torch else nullcontext():
                return self._predict(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            count, window = len(batch.windows), batch.windows[0]
            if count == 1 and self._make_room():
                compat.log(
                    f'Memory does not suffice for a window of {window.h} x '
                    f'{window.w} pixels ({_first_line(error)}): sums of '
                    'logits are kept on the host from now on.',
                    logging.WARNING,
                )
                return None
            if count == 1:
                raise WindowTooLargeError(
                    f'memory does not suffice for one window of {window.h} x '
                    f'{window.w} pixels ({_first_line(error)}); lower '
                    'test_cfg.crop_size and test_cfg.stride'
                ) from error
            self._limit = (count + 1) // 2
            compat.log(
                f'Memory does not suffice for {count} windows of {window.h} x '
                f'{window.w} pixels at a time ({_first_line(error)}); going '
                f'on with {self._limit}. Set test_cfg.batch_size to that.',
                logging.WARNING,
            )
            return None


def _first_line(error: BaseException) -> str:
    """Return the beginning of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
