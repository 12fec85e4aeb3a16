"""A cache that is bounded in bytes."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np

_MIB = 2**20


class ArrayCache:
    """Keeps the arrays that were used last, within a number of bytes.

    An array that is larger than the bound is returned but not kept.

    Args:
        max_bytes (int): Bound on the sum of the arrays' bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """int: Bytes kept now."""
        return sum(array.nbytes for array in self._arrays.values())

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of a key, made now unless it is kept.

        Args:
            key (Hashable): What the array depends on.
            make (Callable): Makes the array.

        Returns:
            np.ndarray: The array; do not write to it.
        """
        with self._lock:
            if key not in self._arrays:
                array = make()
                if array.nbytes > self.max_bytes:
                    return array
                self._arrays[key] = array
                while self.nbytes > self.max_bytes:
                    self._arrays.popitem(last=False)
            self._arrays.move_to_end(key)
            return self._arrays[key]


#: Images of formats without random access, decoded once per process.
DECODED_IMAGES = ArrayCache(
    _MIB * int(os.environ.get('MMSEG_UHR_DECODED_CACHE_MIB', '512'))
)
