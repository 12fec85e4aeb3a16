"""Converting one file at a time; this runs in worker processes."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...rasters import (
    FileRaster,
    GeoTIFFWriter,
    RasterError,
    RowBuffer,
    write_copy,
)
from .decoding import Decoder, stripes
from .sources import Member, unpack

# TIFFs of up to this many pixels are decoded as a whole fast enough.
_SMALL_IMAGE = 2**22
# Bytes of an image that are held at a time.
_STRIPE_BYTES = 2**21
# Strips of more rows are no random access.
_STRIP_ROWS = 64
# Side of the sample of which the range of values is taken.
_SAMPLE = 512


@dataclass(frozen=True)
class Task:
    """A file to be made.

    Args:
        scene (tuple[str]): Split and name of the scene.
        kind (str): ``'image'`` or ``'label'``.
        member (Member): What it is made of.
        out (Path): The file to write.
        recipe (str): What else decides its content.
        tile (bool, optional): Of an image: whether it is made a tiled GeoTIFF.
            Defaults to: if it cannot be read by window.
        decoder (Decoder, optional): Of a label map.
        palette (Sequence[Sequence[int]]): Of a label map.
    """

    scene: tuple[str, str]
    kind: str
    member: Member
    out: Path
    recipe: str
    tile: bool | None = None
    decoder: Decoder | None = None
    palette: Sequence[Sequence[int]] = ()


@dataclass
class Result:
    """What became of a task.

    Args:
        task (Task): The task.
        record (dict): Facts about the file, fit for JSON.
        problem (str): Why there is none.
        fatal (bool): Whether the next file would fail as well.
    """

    task: Task
    record: dict[str, Any] = field(default_factory=dict)
    problem: str = ''
    fatal: bool = False


def work(task: Task, staged: Path | None, staging: Path) -> Result:
    """Make a file.

    Args:
        task (Task): What to make.
        staged (Path, optional): The member, if it has been unpacked; it is
            removed.
        staging (Path): Folder for members that have not.

    Returns:
        Result: Of the task; problems of a file are not raised.
    """
    path = staged
    try:
        if path is None:
            path = unpack(task.member, staging)
        if task.kind == 'image':
            record = _make_image(task, path)
        else:
            record = _make_label(task, path)
        stat = task.out.stat()
        record.update(bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)
        return Result(task, record)
    except RasterError as error:
        own = error.name in (str(path), str(task.member))
        problem = error.problem if own else str(error)
        return Result(task, problem=problem, fatal=error.name == str(task.out))
    except (OSError, MemoryError) as error:
        return Result(
            task, problem=f'{type(error).__name__}: {error}', fatal=True
        )
    finally:
        if path is not None and path != task.member.source:
            path.unlink(missing_ok=True)


def _make_image(task: Task, path: Path) -> dict[str, Any]:
    """Link, copy or tile an image."""
    raster = FileRaster(path)
    if task.tile or (task.tile is None and not _reads_by_window(raster)):
        _tile(raster, task.out)
    else:
        _link(path, task.out)
    record = dict(
        shape=list(raster.shape),
        bands=raster.file_bands,
        dtype=raster.dtype.name,
    )
    if raster.dtype != np.uint8:
        record['range'] = _value_range(raster)
    return record


def _reads_by_window(raster: FileRaster) -> bool:
    """Tell whether a file is a TIFF whose windows cost little."""
    height, width = raster.shape
    dataset = raster._open()
    if dataset.driver != 'GTiff':
        return False
    if height * width <= _SMALL_IMAGE:
        return True
    rows, columns = dataset.block_shapes[0]
    if columns < width and raster.random_access:
        return True
    # Rows without compression cost little more to read than their windows.
    structure = dataset.tags(ns='IMAGE_STRUCTURE')
    return rows <= _STRIP_ROWS and 'COMPRESSION' not in structure


def _tile(raster: FileRaster, out: Path) -> None:
    """Write an image as a tiled GeoTIFF, as it is."""
    dataset = raster._open()
    if dataset.driver == 'GTiff':
        # Many files of red, green, blue and infrared call it transparency.
        raster = FileRaster(raster.name, range(1, raster.file_bands + 1))
    fill = raster.nodata
    if fill is None:
        fill = np.nan if raster.dtype.kind == 'f' else 0
    width = raster.shape[1]
    row = width * raster.bands * raster.dtype.itemsize
    parts = stripes(raster.shape, _STRIPE_BYTES * width // row)
    rows = RowBuffer(raster, parts[0][1])
    with GeoTIFFWriter(
        out,
        raster.shape,
        raster.bands,
        raster.dtype.name,
        raster.georef,
        nodata=raster.nodata,
    ) as writer:
        for y, height in parts:
            writer.write_rows(y, rows.read((y, 0, height, width), fill=fill))


def _link(path: Path, out: Path) -> None:
    """Give a file a second name, or copy it to another disk."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists() and os.path.samefile(path, out):
        return
    partial = out.with_name(f'.{out.name}.partial')
    partial.unlink(missing_ok=True)
    path = path.resolve()
    try:
        os.link(path, partial)
    except OSError:
        shutil.copyfile(path, partial)
    os.replace(partial, out)


def _make_label(task: Task, path: Path) -> dict[str, Any]:
    """Write a map of class ids."""
    reader = task.decoder.open(path)
    histogram = np.zeros(256, np.int64)
    tif = task.out
    if task.out.suffix != '.tif':
        tif = task.out.with_name(f'.{task.out.stem}.ids.tif')
    try:
        with GeoTIFFWriter(
            tif,
            reader.shape,
            georef=reader.georef,
            palette=task.palette,
        ) as writer:
            for y, ids in reader.read():
                writer.write_rows(y, ids)
                histogram += np.bincount(ids.reshape(-1), minlength=256)
        if tif != task.out:
            write_copy(tif, task.out, 'PNG')
    finally:
        if tif != task.out:
            tif.unlink(missing_ok=True)
    return dict(
        shape=list(reader.shape),
        pixels={str(i): int(histogram[i]) for i in np.flatnonzero(histogram)},
        unmatched=reader.unmatched,
    )


def _value_range(raster: FileRaster) -> list[list[float]]:
    """Return percentiles 2 and 98 of a sample of each band, without zeros."""
    size = tuple(min(side, _SAMPLE) for side in raster.shape)
    sample = raster.read(size=size, resampling='nearest', fill=0)
    ranges = []
    for band in sample.reshape(-1, raster.bands).T:
        band = band[np.isfinite(band) & (band != 0)]
        low, high = np.percentile(band, (2, 98)) if len(band) else (0, 0)
        ranges.append([float(low), float(high)])
    return ranges
