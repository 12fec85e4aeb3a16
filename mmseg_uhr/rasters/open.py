"""One way in for everything that can be read by window."""

import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from .array import ArrayRaster
from .base import Raster
from .file import FileRaster, file_version

if TYPE_CHECKING:
    from torch import Tensor

RasterLike = Union[str, Path, np.ndarray, 'Tensor', Raster]


@lru_cache(maxsize=64)
def _open_cached(
    path: str, bands: tuple[int, ...] | None, version: tuple[int, ...]
) -> FileRaster:
    """Open a file; ``version`` changes when the file or the process does."""
    return FileRaster(path, bands)


def open_raster(
    path: str | Path, bands: Sequence[int] | None = None
) -> FileRaster:
    """Open a raster file; files used lately stay open.

    Args:
        path (str | Path): Anything that GDAL opens, also what is not local:
            ``/vsizip/...``, ``https://...``, ``s3://...``.
        bands (Sequence[int], optional): Bands, counted from 1, in the order
            wanted. Defaults to all but an alpha band.

    Returns:
        FileRaster: Nothing but the header has been read.

    Raises:
        RasterError: If the file is missing, is no raster, or lacks a band.
    """
    version = (*file_version(str(path)), os.getpid())
    return _open_cached(str(path), bands and tuple(bands), version)


def as_raster(source: RasterLike, name: str | None = None) -> Raster:
    """Make a raster of whatever holds pixels.

    Args:
        source (str | Path | np.ndarray | Tensor | Raster): A file, an array
            (H, W[, bands]), a tensor (bands, H, W), or a raster.
        name (str, optional): What to call an array or tensor in messages.

    Returns:
        Raster: The source itself if it is a raster.

    Raises:
        TypeError: If the source is none of these.
    """
    if isinstance(source, Raster):
        return source
    if isinstance(source, (str, Path)):
        return open_raster(source)
    if _is_tensor(source):
        from .tensor import TensorRaster

        return TensorRaster(source, name or '<tensor>')
    if isinstance(source, np.ndarray):
        return ArrayRaster(source, name or '<array>')
    raise TypeError(
        f'cannot read pixels from {type(source).__name__}: expected a path, '
        'an array (H, W[, bands]), a tensor (bands, H, W) or a Raster'
    )


def _is_tensor(source: Any) -> bool:
    """Tell whether this is a tensor; before PyTorch is imported none is."""
    torch = sys.modules.get('torch')
    return torch is not None and isinstance(source, torch.Tensor)
