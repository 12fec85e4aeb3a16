"""From the pixels of official label files to class ids."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...rasters import FileRaster, GeoReference, RasterError, RowBuffer
from ...rasters.verify import opened

IGNORE = 255
# A pixel that no rule matches, until it is counted.
_UNMATCHED = 254
# Pixels decoded at a time: a few bytes each for every step.
_STRIPE_PIXELS = 2**19
# How many strange values a message names.
_NAMED = 5


def stripes(shape: tuple[int, int], pixels: int = _STRIPE_PIXELS) -> list:
    """Cut an image into stripes of rows.

    Args:
        shape (tuple[int]): ``(H, W)`` in pixels.
        pixels (int): About how many a stripe has.

    Returns:
        list[tuple[int]]: First row and number of rows.
    """
    height, width = shape
    rows = min(max(pixels // width // 16 * 16, 16), height)
    return [(y, min(rows, height - y)) for y in range(0, height, rows)]


class LabelReader(ABC):
    """Class ids of one scene, read from the top down.

    Attributes:
        shape (tuple[int]): ``(H, W)`` in pixels.
        georef (GeoReference | None): Where the scene lies.
        unmatched (int): Pixels so far that no rule matches.
    """

    shape: tuple[int, int]
    georef: GeoReference | None = None
    unmatched: int = 0

    @abstractmethod
    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        """Read the scene.

        Yields:
            tuple[int, np.ndarray]: First row, and ids ``uint8`` (h, W), 255
            where ignored.

        Raises:
            RasterError: If a file cannot be read, or too many pixels match no
                rule.
        """


class Decoder(ABC):
    """How labels are made of a file."""

    @abstractmethod
    def open(self, path: str | Path) -> LabelReader:
        """Open a file.

        Args:
            path (str | Path): A label file, or the image for labels that do
                not come a file an image.

        Raises:
            RasterError: If it is not of the expected kind.
        """


@dataclass(frozen=True)
class Colours(Decoder):
    """Label files whose colours are classes.

    Args:
        colours (tuple[tuple[int]]): RGB of the class ids 0, 1, ...
        ignored (tuple[tuple[int]]): RGB of pixels without a label.
        tolerance (int): By how much each channel may differ. Defaults to 0.
        threshold (int, optional): From this value on a channel counts as 255,
            below as 0: for noisy masks whose channels are 0 or 255.
        max_unmatched (float): Larger shares of pixels of other colours are an
            error; smaller ones are ignored pixels, and counted.

    Raises:
        ValueError: If tolerances of two colours overlap.
    """

    colours: tuple[tuple[int, int, int], ...]
    ignored: tuple[tuple[int, int, int], ...] = ()
    tolerance: int = 0
    threshold: int | None = None
    max_unmatched: float = 1e-3

    def open(self, path: str | Path) -> LabelReader:
        """Open a mask of three bands, or of one with a palette."""
        raster = FileRaster(path)
        palette = None
        if raster.bands == 1:
            palette = _palette(raster)
            if palette is None:
                raise RasterError(
                    raster.name,
                    f'has one band without a palette and values such as '
                    f'{_first_values(raster)}, but a mask of the colours '
                    f'{self} was expected; if it holds ids, tell which value '
                    'means which class with --label-values',
                )
        if raster.bands not in (1, 3) or raster.dtype != np.uint8:
            raise RasterError(
                raster.name,
                f'holds {raster.bands} bands of {raster.dtype}, but a mask '
                f'of the colours {self}, three bands of uint8, was expected',
            )
        return _ColourReader(self, raster, palette)

    def __str__(self) -> str:
        listed = ', '.join(str(list(rgb)) for rgb in self.colours[:3])
        more = ', ...' if len(self.colours) > 3 else ''
        return f'{listed}{more}'


@dataclass(frozen=True)
class Values(Decoder):
    """Label files whose values are classes.

    Args:
        table (tuple[tuple[int]]): Pairs of a value and its class id, or 255.
        rest (int, optional): Class id of all other values, which are an error
            otherwise.
    """

    table: tuple[tuple[int, int], ...]
    rest: int | None = None

    def open(self, path: str | Path) -> LabelReader:
        """Open a file of one band of integers."""
        raster = FileRaster(path)
        if raster.bands != 1:
            raise RasterError(
                raster.name,
                f'has {raster.bands} bands, so it seems to be a coloured '
                f'mask, but one band of the values {self} was expected',
            )
        if raster.dtype.kind not in 'iu':
            raise RasterError(
                raster.name,
                f'holds {raster.dtype} values, but integers were expected',
            )
        return _ValueReader(self, raster)

    def __str__(self) -> str:
        values = sorted(value for value, _ in self.table)
        if len(values) > 3 and values == list(
            range(values[0], values[-1] + 1)
        ):
            listed = f'{values[0]}-{values[-1]}'
        else:
            listed = ', '.join(map(str, values))
        return listed if self.rest is None else f'{listed} and others'


class _FileReader(LabelReader):
    """Reads and decodes a file in stripes."""

    max_unmatched = 0.0

    def __init__(self, decoder: Any, raster: FileRaster) -> None:
        self.decoder = decoder
        self.raster = raster
        self.shape, self.georef = raster.shape, raster.georef
        self._strange: dict[tuple, None] = {}

    def read(self) -> Iterator[tuple[int, np.ndarray]]:
        width = self.shape[1]
        parts = stripes(self.shape)
        rows = RowBuffer(self.raster, parts[0][1])
        # Values that mean no data are read as they are.
        fill = self.raster.nodata or 0
        for y, height in parts:
            pixels = rows.read((y, 0, height, width), fill=fill)
            ids = self._decode(pixels)
            unmatched = ids == _UNMATCHED
            count = int(np.count_nonzero(unmatched))
            if count:
                self.unmatched += count
                self._note(pixels[unmatched])
                ids[unmatched] = IGNORE
            yield y, ids
        self._check()

    @abstractmethod
    def _decode(self, pixels: np.ndarray) -> np.ndarray:
        """Return class ids (h, W) of pixels (h, W, bands)."""

    def _note(self, pixels: np.ndarray) -> None:
        """Remember the first strange values, of pixels (n, bands)."""
        if len(self._strange) < _NAMED:
            found = np.unique(pixels[: 2**16], axis=0)[:_NAMED]
            self._strange.update(dict.fromkeys(map(tuple, found.tolist())))

    def _check(self) -> None:
        """Refuse a file of too many strange pixels."""
        total = self.shape[0] * self.shape[1]
        if self.unmatched <= self.max_unmatched * total:
            return
        values = [list(v) if len(v) > 1 else v[0] for v in self._strange][
            :_NAMED
        ]
        raise RasterError(
            self.raster.name,
            f'{self.unmatched} of {total} pixels '
            f'({self.unmatched / total:.2%}) hold none of {self.decoder}; '
            f'the first others: {", ".join(map(str, values))}',
        )


class _ColourReader(_FileReader):
    """Reads a coloured mask."""

    def __init__(
        self,
        decoder: Colours,
        raster: FileRaster,
        palette: np.ndarray | None,
    ) -> None:
        super().__init__(decoder, raster)
        self.max_unmatched = decoder.max_unmatched
        self._table = None
        if palette is not None:
            self._table = self._ids(palette[:, None])[:, 0]

    def _decode(self, pixels: np.ndarray) -> np.ndarray:
        if self._table is not None:
            return cv2.LUT(pixels[..., 0], self._table)
        return self._ids(pixels)

    def _ids(self, pixels: np.ndarray) -> np.ndarray:
        """Look up colours (h, w, 3)."""
        keys = pixels[..., 0].astype(np.int32)
        for band in (1, 2):
            keys <<= 8
            keys |= pixels[..., band]
        return _colour_table(self.decoder).take(keys)


class _ValueReader(_FileReader):
    """Reads a map of values."""

    def _decode(self, pixels: np.ndarray) -> np.ndarray:
        values, table = pixels[..., 0], _value_table(self.decoder)
        if values.dtype == np.uint8:
            return cv2.LUT(np.ascontiguousarray(values), table[:256])
        last = len(table) - 1
        known = (values >= 0) & (values < last)
        return table.take(np.where(known, values, last).astype(np.int32))


@lru_cache(maxsize=1)
def _colour_table(decoder: Colours) -> np.ndarray:
    """Return the id of every colour, 16 MiB."""
    table = np.full((256, 256, 256), _UNMATCHED, np.uint8)
    ids = [*enumerate(decoder.colours)]
    ids += [(IGNORE, rgb) for rgb in decoder.ignored]
    for class_id, rgb in ids:
        if decoder.threshold is None:
            cube = tuple(
                slice(
                    max(value - decoder.tolerance, 0),
                    value + decoder.tolerance + 1,
                )
                for value in rgb
            )
        else:
            half = decoder.threshold
            cube = tuple(
                slice(half, None) if value >= half else slice(0, half)
                for value in rgb
            )
        if (table[cube] != _UNMATCHED).any():
            raise ValueError(
                f'colour {list(rgb)} is within the tolerance of another'
            )
        table[cube] = class_id
    return table.reshape(-1)


@lru_cache(maxsize=1)
def _value_table(decoder: Values) -> np.ndarray:
    """Return the ids of the values 0-65535, and of all beyond."""
    rest = _UNMATCHED if decoder.rest is None else decoder.rest
    table = np.full(2**16 + 1, rest, np.uint8)
    for value, class_id in decoder.table:
        table[value] = class_id
    return table


def _palette(raster: FileRaster) -> np.ndarray | None:
    """Return the colours (256, 3) of a file's palette; None if it has none."""
    with opened(Path(raster.name)) as dataset:
        try:
            colours = dataset.colormap(1)
        except ValueError:
            return None
    # A palette of greys is how some formats say that there is none.
    if all(rgba[:3] == (i, i, i) for i, rgba in colours.items()):
        return None
    palette = np.zeros((256, 3), np.uint8)
    for i, rgba in colours.items():
        palette[i] = rgba[:3]
    return palette


def _first_values(raster: FileRaster) -> list:
    """Return some of the values of a file."""
    height, width = raster.shape
    size = min(height, 256), min(width, 256)
    values = np.unique(raster.read(size=size, resampling='nearest'))
    return values[:_NAMED].tolist()
