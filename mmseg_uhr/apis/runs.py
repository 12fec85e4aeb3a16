"""Maps of many scenes, made by one process or several."""

import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from ..compat import rank_and_world
from ..rasters import RasterError
from ..streaming import FinishedRows, WriteBehind
from ..streaming.shares import cut_shares
from .jobs import MapJob
from .prediction import Prediction
from .progress import Progress, ProgressLike
from .ranks import RankError, meet

# How long to wait for a process that works, after one's own work is done: in
# seconds, and in times of that.
_PATIENCE, _PATIENCE_FACTOR = 3600, 3


class ScenesError(ValueError):
    """Several scenes that could not be segmented; the others are done."""


@dataclass
class Tally:
    """What one process has done of a scene.

    Args:
        pixels (int): Predicted.
        seconds (float): Of reading, predicting and writing.
        failure (Exception, optional): What went wrong.
        fatal (bool): Whether it says something about the other scenes, too.
    """

    pixels: int = 0
    seconds: float = 0.0
    failure: Exception | None = None
    fatal: bool = False


class MapRun:
    """Segments what is missing of the maps, in all processes together.

    Scenes that one process segments alone are finished by it at once, the
    others when all are done.

    Args:
        jobs (Sequence[MapJob]): Prepared; the same in every process.
        prediction (Prediction): How to predict.
    """

    def __init__(self, jobs: Sequence[MapJob], prediction: Prediction) -> None:
        self.jobs, self.prediction = jobs, prediction
        self.rank, self.world = rank_and_world()
        self.tallies = [Tally() for _ in self.jobs]
        shares = cut_shares(
            [job.missing or [] for job in self.jobs],
            [job.store.shape[1] for job in self.jobs],
            self.world,
        )
        self.own = shares[self.rank]
        # Who works on each scene; where nothing is missing, who finishes it.
        self.workers: list[list[int]] = [
            [
                rank
                for rank, share in enumerate(shares)
                if any(part.scene == index for part in share)
            ]
            or [index % self.world]
            for index in range(len(self.jobs))
        ]

    def __call__(self, progress: ProgressLike, title: str) -> list[Tally]:
        """Run.

        Args:
            progress (bool | Callable): See :class:`Progress`.
            title (str): Of the progress bar.

        Returns:
            list[Tally]: Of each scene, of all processes together; with a
            ``failure`` if the scene cannot be read, the others are done.

        Raises:
            RasterError: If a map cannot be written.
            RankError: If a process failed or vanished.
        """
        begin = time.perf_counter()
        with self._progress(progress, title) as bar:
            errors = self._segment_own(bar)
        if self.world == 1:
            return self.tallies
        patience = _PATIENCE + _PATIENCE_FACTOR * (time.perf_counter() - begin)
        meet(None, patience)
        errors |= self._finish_shared()
        tallies = self._add_up(meet(self.tallies, patience))
        if any(tally.fatal for tally in tallies):
            raise RankError(
                '; '.join(str(t.failure) for t in tallies if t.failure)
            ) from next(iter(errors.values()), None)
        return tallies

    def _progress(self, progress: ProgressLike, title: str) -> Progress:
        """Count the pixels of one process, or of this one of several."""
        if self.world == 1:
            total = sum(job.pixels for job in self.jobs)
            done = total - sum(job.pixels_missing for job in self.jobs)
            return Progress(progress, total, title, done)
        widths = [job.store.shape[1] for job in self.jobs]
        total = sum(
            (part.stop - part.start) * widths[part.scene] for part in self.own
        )
        return Progress(progress, total, f'{title}, this process')

    def _segment_own(self, bar: Progress) -> dict[int, Exception]:
        """Do this process's share; return what went wrong."""
        errors: dict[int, Exception] = {}
        for index, workers in enumerate(self.workers):
            if self.rank not in workers:
                continue
            with self._noting(index, errors):
                self._segment(index, bar)
                if len(workers) == 1:
                    self._finish(index)
            # An unreadable scene says nothing about the next one.
            if self.tallies[index].fatal:
                break
        return errors

    def _finish_shared(self) -> dict[int, Exception]:
        """Finish scenes that several processes have segmented."""
        errors: dict[int, Exception] = {}
        for index, job in enumerate(self.jobs):
            first, *others = self.workers[index]
            if others and first == self.rank and job.store.kept() == 1:
                with self._noting(index, errors):
                    self._finish(index)
        return errors

    def _segment(self, index: int, bar: Progress) -> None:
        """Predict this process's rows of a scene, and keep them as parts."""
        job = self.jobs[index]
        parts = [part for part in self.own if part.scene == index]
        if not parts:
            return
        raster = self.prediction.open(job.scene)
        for part in parts:
            rows = self.prediction.rows(raster, part.start, part.stop)
            counted = self._count(rows, index, bar)
            # One part waits while another is written: parts may be large.
            with WriteBehind(depth=1) as writer, closing(counted):
                for start, arrays in job.store.regroup(counted):
                    writer.call(job.store.write, start, arrays)

    def _finish(self, index: int) -> None:
        """Make the files of a scene."""
        begin = time.perf_counter()
        job = self.jobs[index]
        raster = self.prediction.open(job.scene)
        job.finish(raster, self.prediction.nodata(raster))
        self.tallies[index].seconds += time.perf_counter() - begin

    def _count(
        self, rows: Iterator[FinishedRows], index: int, bar: Progress
    ) -> Iterator[FinishedRows]:
        """Count pixels and seconds of finished rows."""
        begin = time.perf_counter()
        tally = self.tallies[index]
        with closing(rows):
            for found in rows:
                yield found
                tally.pixels += found.pixels
                bar.add(found.pixels)
        tally.seconds += time.perf_counter() - begin

    @contextmanager
    def _noting(
        self, index: int, errors: dict[int, Exception]
    ) -> Iterator[None]:
        """Keep an error for later; in one of several processes, report it."""
        try:
            yield
        except Exception as error:
            errors[index] = error
            tally = self.tallies[index]
            tally.fatal = not _is_of_scene(error, self.jobs[index])
            if self.world == 1:
                if tally.fatal:
                    raise
                tally.failure = error
                return
            tally.failure = RankError(self._explain(index, error))
            print(tally.failure, file=sys.stderr, flush=True)
            if not isinstance(error, ValueError):
                traceback.print_exception(error)

    def _explain(self, index: int, error: Exception) -> str:
        """Name this process, its error and the rows that it leaves."""
        job = self.jobs[index]
        rows = ', '.join(
            f'{max(start, part.start)}-{min(stop, part.stop)}'
            for part in self.own
            if part.scene == index
            for start, stop in job.store.missing(check=False)
            if start < part.stop and part.start < stop
        )
        kind = '' if isinstance(error, ValueError) else type(error).__name__
        return (
            f'rank {self.rank} of {self.world}: '
            f'{": ".join(filter(None, (kind, str(error))))}; rows '
            f'{rows or "none"} of {job.scene.name} stay missing'
        )

    def _add_up(self, tallies: Sequence[Sequence[Tally]]) -> list[Tally]:
        """Add what all processes have done, scene by scene."""
        return [
            Tally(
                sum(tally.pixels for tally in of_scene),
                max(tally.seconds for tally in of_scene),
                _joined([t.failure for t in of_scene if t.failure]),
                any(tally.fatal for tally in of_scene),
            )
            for of_scene in zip(*tallies, strict=True)
        ]


def raise_failures(failures: Sequence[Exception], scenes: int) -> None:
    """Tell which scenes could not be segmented, if any.

    Args:
        failures (Sequence[Exception]): One of each such scene.
        scenes (int): How many there are in all.

    Raises:
        RasterError: The failure, if there is one.
        RankError: The same, in one of several processes.
        ScenesError: If there are several.
    """
    if len(failures) > 1:
        raise ScenesError(
            f'{len(failures)} of {scenes} scenes failed, the others are '
            f'done: {"; ".join(map(str, failures))}'
        )
    if failures:
        raise failures[0]


def _joined(failures: Sequence[Exception]) -> Exception | None:
    """Make one failure of those of several processes."""
    return RankError('; '.join(map(str, failures))) if failures else None


def _is_of_scene(error: Exception, job: MapJob) -> bool:
    """Tell whether an error is about the pixels of a scene."""
    return isinstance(error, RasterError) and error.name == job.scene.name
