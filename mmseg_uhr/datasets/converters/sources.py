"""Files of downloads, in folders and in archives that stay packed."""

import os
import re
import shutil
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...rasters import RasterError
from .spec import ConversionError

_SEVEN_ZIP = re.compile(r'\.(7z|rar)(\.\d+)?$|\.z?\d\d\d?$', re.IGNORECASE)
_BAD_ARCHIVE = (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError)
_ARCHIVES = ('.zip', '.tar', '.tgz', '.tar.gz', '.tar.bz2', '.tar.xz')


@dataclass(frozen=True)
class Member:
    """A file in a folder or in an archive.

    Args:
        source (Path): The file itself, or the archive.
        name (str): Name in the archive; empty for a file.
        path (str): What patterns see: ``/``, the name of the folder or
            archive, and the path in it.
        size (int): Bytes, unpacked.
        version (int): What changes with the content: time of change (ns) or
            checksum.
        kind (str): ``'file'``, ``'zip'``, ``'tar'``, or ``'stream'``, a
            member of a compressed tar.
        offset (int): Where a member of a tar begins, bytes.
    """

    source: Path
    name: str
    path: str
    size: int
    version: int
    kind: str = 'file'
    offset: int = 0

    def __str__(self) -> str:
        return f'{self.source}/{self.name}' if self.name else str(self.source)


def is_archive(path: Path) -> bool:
    """Tell whether a file can be read as an archive, by its name."""
    return path.name.lower().endswith(_ARCHIVES)


def list_source(source: Path) -> list[Member]:
    """List the files of a folder or archive.

    Args:
        source (Path): A folder, ``.zip`` or ``.tar[.gz|.bz2|.xz]``.

    Returns:
        list[Member]: Sorted by path.

    Raises:
        ConversionError: If there is no such source, or it cannot be read.
    """
    if source.is_dir():
        members = _list_folder(source)
    elif not source.exists():
        raise ConversionError(f'{source}: no such folder or archive')
    elif _SEVEN_ZIP.search(source.name):
        raise ConversionError(
            f'{source}: 7-Zip, RAR and multi-part archives are not read; '
            f'unpack it (7z x {source.name}) and give the folder'
        )
    elif not is_archive(source):
        raise ConversionError(
            f'{source}: expected a folder or an archive '
            f'({", ".join(_ARCHIVES)})'
        )
    else:
        try:
            if source.name.lower().endswith('.zip'):
                members = _list_zip(source)
            else:
                members = _list_tar(source)
        except _BAD_ARCHIVE as error:
            raise ConversionError(
                f'{source}: cannot be read as an archive ({error}); copy or '
                'download it again'
            ) from error
    # Not at the start: the source itself may have such a name.
    hidden = re.compile(r'./(\.|__MACOSX/)')
    return sorted(
        (m for m in members if not hidden.search(m.path)),
        key=lambda member: member.path,
    )


def _list_folder(folder: Path) -> list[Member]:
    """List the files of a folder and of those in it."""
    members, top = [], folder.resolve().name
    for root, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = Path(root, name)
            stat = path.stat()
            inside = path.relative_to(folder).as_posix()
            members.append(
                Member(
                    path,
                    '',
                    f'/{top}/{inside}',
                    stat.st_size,
                    stat.st_mtime_ns,
                )
            )
    return members


def _list_zip(source: Path) -> list[Member]:
    """List the files of a zip."""
    members = []
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise ConversionError(
                    f'{source}: is protected by a password; unpack it and '
                    'give the folder'
                )
            path = f'/{source.stem}/{info.filename}'
            members.append(
                Member(
                    source,
                    info.filename,
                    path,
                    info.file_size,
                    info.CRC,
                    'zip',
                )
            )
    return members


def _list_tar(source: Path) -> list[Member]:
    """List the files of a tar; a compressed one is read as a whole."""
    members = []
    top = re.sub(r'(\.tar)?\.\w+$', '', source.name)
    with tarfile.open(source) as archive:
        kind = 'tar' if _is_plain(archive) else 'stream'
        for info in archive:
            if not info.isreg():
                continue
            inside = info.name.removeprefix('./')
            members.append(
                Member(
                    source,
                    info.name,
                    f'/{top}/{inside}',
                    info.size,
                    int(info.mtime),
                    # Holes are not stored.
                    'stream' if info.issparse() else kind,
                    info.offset_data,
                )
            )
    return members


def _is_plain(archive: tarfile.TarFile) -> bool:
    """Tell whether a tar is not compressed."""
    size = os.path.getsize(archive.name)
    with open(archive.name, 'rb') as file:
        magic = file.read(6)
    packed = (b'\x1f\x8b', b'BZh', b'\xfd7zXZ')
    return size >= 512 and not magic.startswith(packed)


@lru_cache(maxsize=4)
def _open_zip(source: Path, pid: int) -> zipfile.ZipFile:
    """Open a zip once a process: its directory may be long."""
    return zipfile.ZipFile(source)


def unpack(member: Member, folder: Path) -> Path:
    """Make a member a file on disk.

    Args:
        member (Member): Of a folder, zip or plain tar.
        folder (Path): Where unpacked files go, under a name of their own.

    Returns:
        Path: The member itself if it is a file, else one to be removed.

    Raises:
        RasterError: If the archive is damaged.
    """
    if member.kind == 'file':
        return member.source
    path = _new_file(member, folder)
    try:
        if member.kind == 'zip':
            archive = _open_zip(member.source, os.getpid())
            with archive.open(member.name) as file, open(path, 'wb') as out:
                shutil.copyfileobj(file, out, 2**20)
        else:
            _copy_part(member, path)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if not isinstance(error, (*_BAD_ARCHIVE, zlib.error)):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RasterError(
            str(member), f'is damaged in the archive ({error})'
        ) from error
    return path


def stream(
    source: Path, members: Collection[Member], folder: Path
) -> Iterator[tuple[Member, Path]]:
    """Unpack members of a compressed tar in their order, one pass.

    Args:
        source (Path): The archive.
        members (Collection[Member]): Which; others are passed over.
        folder (Path): Where unpacked files go.

    Yields:
        tuple[Member, Path]: A member, and its file, to be removed.

    Raises:
        ConversionError: If the archive is damaged.
    """
    wanted = {member.name: member for member in members}
    try:
        with tarfile.open(source, 'r|*') as archive:
            for info in archive:
                member = wanted.pop(info.name, None)
                if member is None:
                    continue
                path = _new_file(member, folder)
                with archive.extractfile(info) as file:
                    with open(path, 'wb') as out:
                        shutil.copyfileobj(file, out, 2**20)
                yield member, path
                if not wanted:
                    return
    except (tarfile.TarError, EOFError) as error:
        raise ConversionError(
            f'{source}: is damaged ({error}); copy or download it again'
        ) from error


def _new_file(member: Member, folder: Path) -> Path:
    """Name a file for a member, with its suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f'{uuid.uuid4().hex}{Path(member.name).suffix}'


def _copy_part(member: Member, path: Path) -> None:
    """Copy a member of a plain tar."""
    left = member.size
    with open(member.source, 'rb') as file, open(path, 'wb') as out:
        file.seek(member.offset)
        while left:
            block = file.read(min(left, 2**20))
            if not block:
                raise EOFError('the archive ends within the file')
            out.write(block)
            left -= len(block)


def expand(sources: Sequence[Path]) -> list[Path]:
    """Name the archives that lie in folders beside them.

    Args:
        sources (Sequence[Path]): Folders and archives.

    Returns:
        list[Path]: The archives right in these folders.
    """
    return [
        path
        for source in sources
        if source.is_dir()
        for path in sorted(source.iterdir())
        if path.is_file() and is_archive(path)
    ]
