"""What a stage used: seconds, and peak memory of the process and device."""

import os
import resource
import time
from types import TracebackType

import torch

_MIB = 2**20


def _status(field: str) -> float:
    """Read a field of ``/proc/self/status`` in MiB."""
    with open('/proc/self/status') as file:
        for line in file:
            if line.startswith(f'{field}:'):
                return int(line.split()[1]) / 1024
    raise KeyError(field)


class Meter:
    """Measures the block it surrounds.

    Peak process memory is what the block added to the resident set at its
    start; Linux forgets earlier peaks on request. Elsewhere only growth
    beyond the highest peak so far is seen.

    Attributes:
        seconds (float): Wall time.
        cpu_seconds (float): CPU time of all threads.
        host_mib (float): Peak process memory added, MiB.
        process_mib (float): Peak memory of the whole process, MiB.
        device_mib (float): Peak CUDA memory allocated, MiB; 0 without CUDA.
    """

    seconds = cpu_seconds = host_mib = process_mib = device_mib = 0.0

    def __enter__(self) -> 'Meter':
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self._resettable = os.path.exists('/proc/self/clear_refs')
        if self._resettable:
            with open('/proc/self/clear_refs', 'w') as file:
                file.write('5')  # Makes the peak the current value.
            self._host = _status('VmRSS')
        else:
            self._host = _peak_ever()
        self._cpu = time.process_time()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.device_mib = torch.cuda.max_memory_allocated() / _MIB
        self.seconds = time.perf_counter() - self._start
        self.cpu_seconds = time.process_time() - self._cpu
        peak = _status('VmHWM') if self._resettable else _peak_ever()
        self.process_mib = peak
        self.host_mib = max(peak - self._host, 0.0)


def _peak_ever() -> float:
    """Return the highest resident set of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
