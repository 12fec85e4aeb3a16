"""Finished rows of a scene on disk, until all are there."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..rasters import RasterError
from .layers import Layer
from .part_file import holds_arrays, replacing, write_arrays
from .rows import FinishedRows

#: Rows of a part in pixels: two rows of blocks of a tiled GeoTIFF or more.
PART_ROWS = 512
_JOURNAL = 'run.json'


class PartStore:
    """Keeps finished rows of one scene in a folder, a file per part.

    A part is :data:`PART_ROWS` rows from a multiple of that. Its file is
    there whole or not at all, and is an ``.npz``. The folder's ``run.json``
    tells which run the parts belong to; parts of another one are refused.

    Args:
        folder (str | Path): Where the parts are.
        shape (tuple[int]): ``(H, W)`` of the scene in pixels.
        layers (Mapping[str, Layer]): What each part holds.
        identity (Mapping): All that the values depend on, for JSON; nested
            mappings are compared field by field.
        part_rows (int): Rows of a part. Defaults to :data:`PART_ROWS`.
    """

    def __init__(
        self,
        folder: str | Path,
        shape: tuple[int, int],
        layers: Mapping[str, Layer],
        identity: Mapping[str, Any],
        part_rows: int = PART_ROWS,
    ) -> None:
        self.folder = Path(folder)
        self.shape = shape
        self.layers = dict(layers)
        # As it comes back from the file: tuples are lists there.
        self.identity = json.loads(json.dumps(identity))
        self.part_rows = part_rows
        self._sound: set[int] = set()

    def open(self, resume: bool = False, overwrite: bool = False) -> None:
        """Make the folder, or go on with one of the same run.

        Args:
            resume (bool): Whether to go on with the parts that are there.
            overwrite (bool): Whether to throw them away instead.

        Raises:
            RasterError: If there are parts and neither is asked for, if they
                belong to another run, or if the folder cannot be written.
        """
        kept = self.kept()
        journal = self.folder / _JOURNAL
        # Parts without a journal are what removing them has left.
        if not overwrite and kept and journal.exists():
            if not resume:
                raise RasterError(
                    str(self.folder),
                    f'holds {kept:.0%} of an interrupted run: add --resume '
                    '(resume=True) to continue it, or --overwrite '
                    '(overwrite=True) to start again',
                )
            self._compare(journal)
            return
        try:
            if self.folder.exists():
                self.remove()
            self.folder.mkdir(parents=True)
            with replacing(journal) as partial:
                partial.write_text(json.dumps(self.identity, indent=2) + '\n')
        except OSError as error:
            raise self._unwritable(error) from error

    def missing(self, check: bool = True) -> list[tuple[int, int]]:
        """Tell which rows are not there, or damaged.

        Args:
            check (bool): Whether to read the parts, each once; else those
                whose files are there are trusted.

        Returns:
            list[tuple[int]]: ``(start, stop)`` of runs of missing parts, from
            the top.
        """
        runs: list[tuple[int, int]] = []
        for start, stop in self._parts():
            there = self._path(start).exists()
            if there and (not check or self._is_sound(start, stop)):
                continue
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], stop)
            else:
                runs.append((start, stop))
        return runs

    def kept(self) -> float:
        """Return the share of rows that are there, from 0 to 1, unchecked."""
        rows = sum(
            stop - start
            for start, stop in self._parts()
            if self._path(start).exists()
        )
        return rows / self.shape[0]

    def regroup(
        self, finished: Iterable[FinishedRows]
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Make parts of finished rows.

        Args:
            finished (Iterable[FinishedRows]): From the begin of a part to the
                end of one, in order.

        Yields:
            tuple[int, dict[str, np.ndarray]]: First row, and the arrays of a
            part.
        """
        part: dict[str, np.ndarray] = {}
        for rows in finished:
            done = 0
            while done < rows.labels.shape[0]:
                y = rows.y + done
                start = y // self.part_rows * self.part_rows
                stop = min(start + self.part_rows, self.shape[0])
                if not part:
                    part = {
                        name: np.empty(
                            layer.shape(stop - start, self.shape[1]),
                            layer.dtype,
                        )
                        for name, layer in self.layers.items()
                    }
                count = min(stop - y, rows.labels.shape[0] - done)
                for name, array in part.items():
                    found = getattr(rows, name)[..., done : done + count, :]
                    array[..., y - start : y - start + count, :] = found
                done += count
                if y + count == stop:
                    yield start, part
                    part = {}

    def write(self, start: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a part.

        Args:
            start (int): Its first row.
            arrays (Mapping[str, np.ndarray]): As :meth:`regroup` makes them.

        Raises:
            RasterError: If the disk is full or the folder is gone; no part of
                the file is left.
        """
        try:
            with replacing(self._path(start)) as partial:
                write_arrays(partial, arrays)
        except OSError as error:
            raise self._unwritable(error) from error

    def read(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Read all parts, from the top; none must be missing.

        Yields:
            tuple[int, dict[str, np.ndarray]]: First row, and the arrays.

        Raises:
            RasterError: If a part cannot be read.
        """
        for start, _ in self._parts():
            path = self._path(start)
            try:
                with np.load(path) as arrays:
                    part = {name: arrays[name] for name in self.layers}
            except Exception as error:
                # A damaged file raises anything, from zlib's to NumPy's.
                raise RasterError(
                    str(path),
                    f'cannot be read ({error}); run again with --resume '
                    '(resume=True), which makes it anew',
                ) from error
            yield start, part

    def remove(self) -> None:
        """Remove the folder; without its journal nobody goes on with it."""
        (self.folder / _JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    def _parts(self) -> Iterator[tuple[int, int]]:
        """Yield first row, and row after the last, of all parts."""
        height = self.shape[0]
        for start in range(0, height, self.part_rows):
            yield start, min(start + self.part_rows, height)

    def _path(self, start: int) -> Path:
        """Return the file of a part."""
        return self.folder / f'rows-{start:08d}.npz'

    def _is_sound(self, start: int, stop: int) -> bool:
        """Tell whether a part is there, whole and of the right shape."""
        if start in self._sound:
            return True
        shapes = {
            name: (layer.shape(stop - start, self.shape[1]), layer.dtype)
            for name, layer in self.layers.items()
        }
        if not holds_arrays(self._path(start), shapes):
            return False
        self._sound.add(start)
        return True

    def _compare(self, journal: Path) -> None:
        """Refuse parts of another run."""
        try:
            stored = json.loads(journal.read_text())
        # The last: brackets in brackets, without end.
        except (OSError, ValueError, RecursionError) as error:
            raise RasterError(
                str(journal),
                f'cannot be read ({error}), so what the parts beside it '
                'belong to is unknown; add --overwrite (overwrite=True) to '
                'start again',
            ) from error
        differing = list(_differences(stored, self.identity))
        if differing:
            raise RasterError(
                str(self.folder),
                'holds parts of another run; these differ: '
                f'{"; ".join(differing)}. Run with what it was begun with, or '
                'add --overwrite (overwrite=True) to start again',
            )

    def _unwritable(self, error: OSError) -> RasterError:
        """Explain why a part cannot be written."""
        folder = self.folder
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free / 2**20
        return RasterError(
            str(error.filename or self.folder),
            f'cannot be written ({error.strerror or error}; {free:.0f} MiB '
            'of the disk are free); finished rows are kept: mend that, then '
            'run again with --resume (resume=True)',
        )


def _differences(then: Any, now: Any, field: str = '') -> Iterator[str]:
    """Name the fields in which two identities differ."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in {**then, **now}:
            inner = f'{field}.{name}'.lstrip('.')
            yield from _differences(then.get(name), now.get(name), inner)
    elif then != now:
        yield f'{field} was {_short(then)}, is {_short(now)}'


def _short(value: Any) -> str:
    """Show a value; of a checksum, the beginning."""
    text = json.dumps(value)
    return f'{text[1:9]}...' if re.fullmatch('"[0-9a-f]{64}"', text) else text
