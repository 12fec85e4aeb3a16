"""Memory of this process, now and at its highest."""

import os

from .meter import _peak_ever, _status

_RESET = '/proc/self/clear_refs'


class ProcessMemory:
    """Follows the resident set of this process, in bytes.

    Linux forgets earlier peaks on request; elsewhere a peak is the highest
    ever, and what is there now is not known, so that is taken.
    """

    def __init__(self) -> None:
        self._resettable = os.path.exists(_RESET)

    def now(self) -> int:
        """Return what is there now."""
        return self._read('VmRSS')

    def peak(self) -> int:
        """Return the peak since the last :meth:`reset`."""
        return self._read('VmHWM')

    def reset(self) -> None:
        """Forget the peaks so far."""
        if self._resettable:
            with open(_RESET, 'w') as file:
                file.write('5')

    def _read(self, field: str) -> int:
        """Read a field of the kernel's status."""
        mib = _status(field) if self._resettable else _peak_ever()
        return int(mib * 2**20)
