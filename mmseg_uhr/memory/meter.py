"""What a stage used: seconds, and peak memory of the process and device."""

import time
from types import TracebackType

import torch

from .process import ProcessMemory

_MIB = 2**20


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
        self._process = ProcessMemory()
        self._process.reset()
        self._host = self._process.now()
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
        peak = self._process.peak()
        self.process_mib = peak / _MIB
        self.host_mib = max(peak - self._host, 0) / _MIB
