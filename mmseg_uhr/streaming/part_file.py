"""Files that are there whole or not at all."""

import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..rasters.verify import finish_file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file its name once it is written and on the disk.

    Args:
        path (Path): Its name.

    Yields:
        Path: The name to write it under; nothing of it is left if that fails.

    Raises:
        OSError: If the disk does not take it.
    """
    # Several processes may write into one folder.
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        yield partial
        finish_file(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write what ``np.load`` reads.

    Compressed at level 1, which ``np.savez_compressed`` does not offer: of
    label maps it leaves hardly more, at a fraction of the time.

    Args:
        path (Path): The file, an ``.npz`` by content.
        arrays (Mapping[str, np.ndarray]): Its members.

    Raises:
        OSError: If the disk does not take it.
    """
    with zipfile.ZipFile(
        path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        for name, array in arrays.items():
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def holds_arrays(
    path: Path, expected: Mapping[str, tuple[tuple[int, ...], str]]
) -> bool:
    """Tell whether a file is undamaged and holds what is expected.

    Args:
        path (Path): The file.
        expected (Mapping[str, tuple]): Shape and NumPy name of the type of
            each array.

    Returns:
        bool: Whether it does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return all(
                _holds_array(archive, f'{name}.npy', shape, np.dtype(dtype))
                for name, (shape, dtype) in expected.items()
            )
    except Exception:
        # A damaged file raises anything, from zlib's to NumPy's.
        return False


def _holds_array(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> bool:
    """Tell whether a member is an array of this shape, order and type."""
    with archive.open(name) as member:
        np.lib.format.read_magic(member)
        header = np.lib.format.read_array_header_1_0(member)
        # Its checksum is compared where it ends.
        size = member.tell() + math.prod(shape) * dtype.itemsize
    if (
        header != (shape, False, dtype)
        or archive.getinfo(name).file_size != size
    ):
        return False
    # As it will be read: what the archive says of itself has no checksum.
    with archive.open(name) as member:
        np.lib.format.read_array(member)
    return True
