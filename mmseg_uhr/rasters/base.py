"""What every raster can do: be read by window, at any resolution."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLINGS = ('area', 'nearest', 'pillow')


class RasterError(ValueError):
    """A raster that cannot be opened, read or written as asked.

    Args:
        name (str): Path of the raster.
        problem (str): What was found, what was expected, and the way out.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f'{name}: {problem}')
        self.name = name
        self.problem = problem

    def __reduce__(self) -> tuple:
        # Workers send their exceptions to the main process by pickle.
        return type(self), (self.name, self.problem)


class GeoReference(NamedTuple):
    """Where a raster lies on the Earth.

    Args:
        crs (rasterio.crs.CRS | None): Coordinate reference system; unknown
            where only a world file tells the place.
        transform (affine.Affine): From pixel (column, row) to coordinates.
    """

    crs: Any
    transform: Any


class Placement(NamedTuple):
    """The part of a window that lies on the raster.

    Args:
        inside (tuple[int]): Window ``(y, x, h, w)`` on the raster, pixels.
        box (tuple[int]): Its place ``(y, x, h, w)`` in the view, pixels.
    """

    inside: tuple[int, int, int, int]
    box: tuple[int, int, int, int]


def place(
    window: tuple[int, int, int, int],
    shape: tuple[int, int],
    size: tuple[int, int],
) -> Placement | None:
    """Tell which pixels of a raster a view shows, and where.

    Args:
        window (tuple[int]): ``(y, x, h, w)`` in raster pixels; may stick out.
        shape (tuple[int]): ``(H, W)`` of the raster.
        size (tuple[int]): ``(h, w)`` of the view.

    Returns:
        Placement | None: None if the view shows no pixel of the raster.
    """
    starts, lengths, box_starts, box_lengths = [], [], [], []
    for begin, length, full, out in zip(
        window[:2], window[2:], shape, size, strict=True
    ):
        first, last = max(begin, 0), min(begin + length, full)
        box_first = round((first - begin) * out / length)
        box_last = round((last - begin) * out / length)
        if last <= first or box_last <= box_first:
            return None
        starts.append(first)
        lengths.append(last - first)
        box_starts.append(box_first)
        box_lengths.append(box_last - box_first)
    return Placement((*starts, *lengths), (*box_starts, *box_lengths))


def resize_as_pillow(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image with Pillow's bilinear, i.e. triangle, filter.

    Args:
        pixels (np.ndarray): Shape (h, w, bands), of any type; results of
            integers are rounded.
        size (tuple[int]): ``(h, w)`` in pixels.

    Returns:
        np.ndarray: Shape (*size, bands), of the same type.
    """
    dtype = pixels.dtype
    # Pillow keeps 8 bits or takes floats, one band at a time.
    if dtype != np.uint8:
        pixels = pixels.astype(np.float32)
    bands = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(pixels[..., i])).resize(
                size[::-1], Image.Resampling.BILINEAR
            )
        )
        for i in range(pixels.shape[2])
    ]
    resized = np.stack(bands, axis=2)
    if np.issubdtype(dtype, np.integer) and dtype != np.uint8:
        resized = np.rint(resized)
    return resized.astype(dtype, copy=False)


class Raster(ABC):
    """Pixels that can be read by rectangle.

    Attributes:
        name (str): Path of the file, or what to call it in messages.
        shape (tuple[int]): ``(H, W)`` in pixels.
        bands (int): Number of bands that :meth:`read` delivers.
        dtype (np.dtype): Type of the values that :meth:`read` delivers.
        georef (GeoReference | None): Where the raster lies, if known.
        has_mask (bool): Whether some pixels may have no data.
        in_memory (bool): Whether reading costs no more than copying.
        block_height (int): Rows that are decoded together; reading a part of
            them costs as much as reading all.
        has_overviews (bool): Whether reading at half the resolution or less
            costs less than reading all pixels.
    """

    name: str
    shape: tuple[int, int]
    bands: int
    dtype: np.dtype
    georef: GeoReference | None = None
    has_mask: bool = False
    in_memory: bool = False
    block_height: int = 1
    has_overviews: bool = False

    def identity(self) -> dict[str, Any]:
        """Tell what a result depends on, to recognise the raster later.

        Returns:
            dict: Fit for JSON: ``name``, ``shape``, ``bands`` and ``dtype``;
            files add their ``bytes``, ``mtime_ns`` and ``band_numbers``,
            rasters in memory a checksum, scaled ones their range.
        """
        return dict(
            name=self.name,
            shape=list(self.shape),
            bands=self.bands,
            dtype=self.dtype.name,
        )

    def read(
        self,
        window: tuple[int, int, int, int] | None = None,
        size: tuple[int, int] | None = None,
        resampling: str = 'area',
        fill: float = 0,
    ) -> np.ndarray:
        """Read a window, resized to a view.

        Args:
            window (tuple[int], optional): ``(y, x, h, w)`` in pixels of the
                raster; what sticks out is ``fill``. Defaults to everything.
            size (tuple[int], optional): ``(h, w)`` of the view in pixels.
                Defaults to the window's own.
            resampling (str): ``'area'`` (anti-aliased, for images),
                ``'nearest'`` (for labels), or ``'pillow'``, the bilinear
                filter of Pillow, which needs all of the window's pixels, with
                ``fill`` for those outside.
            fill (float): Value of the pixels outside the raster, and of those
                without data.

        Returns:
            np.ndarray: Shape (h, w, bands).

        Raises:
            RasterError: If the pixels cannot be read.
            ValueError: If the window or the size is empty.
        """
        window, size = self._check(window, size, resampling)
        if resampling == 'pillow':
            return resize_as_pillow(self.read(window, fill=fill), size)
        placement = place(window, self.shape, size)
        if placement is None:
            return np.full((*size, self.bands), fill, self.dtype)
        y, x, h, w = placement.box
        pixels = self._read(placement.inside, (h, w), resampling)
        pixels = self._fill_nodata(pixels, fill)
        if (h, w) == size:
            return pixels
        view = np.full((*size, self.bands), fill, self.dtype)
        view[y : y + h, x : x + w] = pixels
        return view

    def read_tensor(
        self,
        window: tuple[int, int, int, int] | None = None,
        size: tuple[int, int] | None = None,
        resampling: str = 'area',
        fill: float = 0,
    ) -> 'Tensor':
        """Read like :meth:`read`, as a tensor of shape (bands, h, w)."""
        # All else here goes without PyTorch.
        import torch

        pixels = self.read(window, size, resampling, fill)
        return torch.from_numpy(pixels.transpose(2, 0, 1))

    def read_mask(
        self, window: tuple[int, int, int, int]
    ) -> np.ndarray | None:
        """Tell which pixels of a window have data.

        Args:
            window (tuple[int]): ``(y, x, h, w)`` in pixels, on the raster.

        Returns:
            np.ndarray | None: Bool (h, w); None if all have.

        Raises:
            RasterError: If the pixels cannot be read.
        """
        return None

    def _check(
        self,
        window: tuple[int, int, int, int] | None,
        size: tuple[int, int] | None,
        resampling: str,
    ) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """Fill in the defaults of a read and refuse empty ones."""
        window = (0, 0, *self.shape) if window is None else tuple(window)
        size = window[2:] if size is None else tuple(size)
        if min(*window[2:], *size) < 1:
            raise ValueError(
                f'{self.name}: window {window} read at size {size}: heights '
                'and widths must be at least 1 pixel'
            )
        if resampling not in RESAMPLINGS:
            raise ValueError(
                f'resampling {resampling!r}: expected one of {RESAMPLINGS}'
            )
        return window, size

    @abstractmethod
    def _read(
        self,
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: str,
    ) -> np.ndarray:
        """Read a window that lies on the raster, see :meth:`read`."""

    def _read_rows(
        self, y: int, height: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read whole rows; callers go from the top down.

        Args:
            y (int): First row.
            height (int): How many, on the raster.

        Returns:
            tuple[np.ndarray]: Pixels (height, W, bands), with those that have
            no data as they are, and which have data, bool (height, W); None
            if all have.
        """
        window = (y, 0, height, self.shape[1])
        mask = self.read_mask(window)
        pixels = self._read(window, window[2:], 'nearest')
        return pixels, mask

    def _missing(self, pixels: np.ndarray) -> np.ndarray | None:
        """Tell which values (h, w, bands) mean no data; None if none can."""
        return None

    def _fill_nodata(self, pixels: np.ndarray, fill: float) -> np.ndarray:
        """Replace values that mean no data."""
        missing = self._missing(pixels)
        # Not in place: the pixels may be a part of a cached image.
        if missing is None or not missing.any():
            return pixels
        return np.where(missing, self.dtype.type(fill), pixels)

    def __repr__(self) -> str:
        height, width = self.shape
        return (
            f'{type(self).__name__}({self.name!r}, {height}x{width}, '
            f'{self.bands} x {self.dtype})'
        )
