"""Memory of this process, now and at its highest."""

import os
import resource

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
        if not self._resettable:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            return usage.ru_maxrss * 2**10
        with open('/proc/self/status') as file:
            for line in file:
                if line.startswith(f'{field}:'):
                    return int(line.split()[1]) * 2**10
        raise KeyError(field)
