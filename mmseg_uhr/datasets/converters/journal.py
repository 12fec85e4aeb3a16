"""What earlier runs have finished."""

import json
from pathlib import Path
from typing import Any

from .writing import Result, Task

_NAME = '.convert.jsonl'


class Journal:
    """Facts about finished files, a line each, beside them.

    A run that was killed has written all lines but those of the files that it
    was at.

    Args:
        out (Path): Folder of the converted data set.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / _NAME
        self._lines: dict[str, dict[str, Any]] = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding='utf-8').split('\n'):
                try:
                    entry = json.loads(line)
                    self._lines[entry['file']] = entry
                # The end of a line that was being written.
                except (ValueError, KeyError, TypeError):
                    continue

    def __enter__(self) -> 'Journal':
        self.out.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, 'a', encoding='utf-8')
        # After half a line.
        self._file.write('\n')
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def find(self, task: Task) -> dict[str, Any] | None:
        """Return what is known of a finished file.

        Args:
            task (Task): What would make it.

        Returns:
            dict | None: None if it is not there, was changed, or was made of
            another file or in another way.
        """
        entry = self._lines.get(self._key(task))
        if entry is None or entry['made_of'] != _origin(task):
            return None
        try:
            stat = task.out.stat()
        except OSError:
            return None
        record = entry['record']
        if (stat.st_size, stat.st_mtime_ns) != (
            record['bytes'],
            record['mtime_ns'],
        ):
            return None
        return record

    def add(self, result: Result) -> None:
        """Note a finished file."""
        entry = dict(
            file=self._key(result.task),
            made_of=_origin(result.task),
            record=result.record,
        )
        self._lines[entry['file']] = entry
        self._file.write(json.dumps(entry) + '\n')
        self._file.flush()

    def others(self, tasks: list[Task]) -> list[str]:
        """Name files of earlier runs that are none of these tasks'."""
        own = {self._key(task) for task in tasks}
        return sorted(
            name
            for name in self._lines
            if name not in own and (self.out / name).is_file()
        )

    def _key(self, task: Task) -> str:
        """Return the path of a file in the data set."""
        return task.out.relative_to(self.out).as_posix()


def _origin(task: Task) -> list:
    """Return all that decides the content of a file, as JSON has it."""
    return [
        task.member.path,
        task.member.size,
        task.member.version,
        task.recipe,
    ]
