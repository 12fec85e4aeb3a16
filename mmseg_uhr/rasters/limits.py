"""What a file may claim before memory is spent on it."""

import os

from .base import RasterError

#: Environment variable: pixels of an image that is decoded from its top.
MAX_PIXELS = 'MMSEG_UHR_MAX_PIXELS'
# Side 65536: all that JPEG can be, and more than most programs write as PNG.
_DEFAULT = 2**32
# A block is held in memory as a whole, an image is not.
_BLOCK_SHARE = 16
_TILED = (
    'make it a tiled GeoTIFF, which may have any size '
    '(gdal_translate -co TILED=YES -co COMPRESS=DEFLATE -co BIGTIFF=IF_SAFER)'
)


def check_pixels(
    name: str,
    shape: tuple[int, int],
    block: tuple[int, int],
    is_scanned: bool,
) -> None:
    """Refuse a file of which a few bytes would fill the memory or a day.

    Files of small blocks may have any size: only what is asked for is read.

    Args:
        name (str): Of the file.
        shape (tuple[int]): ``(H, W)`` that its header claims, pixels.
        block (tuple[int]): ``(h, w)`` of what is decoded together, pixels.
        is_scanned (bool): Whether it is decoded row by row from its top.

    Raises:
        RasterError: If it is too large; names the limit.
        ValueError: If the limit is no number.
    """
    limit = _limit()
    what, (height, width) = 'an image that is decoded from its top', shape
    if not is_scanned:
        limit //= _BLOCK_SHARE
        what, (height, width) = 'a block', block
    if height * width > limit:
        raise RasterError(
            name,
            f'its header claims {what} of {height} x {width} pixels, but '
            f'{limit / 1e6:.0f} megapixels is the limit, so that small files '
            'cannot fill the memory. If you trust the file, raise the '
            f'environment variable {MAX_PIXELS} (now {_limit()}'
            f'{"" if is_scanned else f"; a block may have 1/{_BLOCK_SHARE}"})'
            f', or {_TILED}',
        )


def check_rows(name: str, rows: int, nbytes: int) -> None:
    """Refuse rows that do not fit into this machine.

    Args:
        name (str): Of the raster.
        rows (int): How many are to be held.
        nbytes (int): Their bytes.

    Raises:
        RasterError: If they need more memory than there is.
    """
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if nbytes > memory:
        raise RasterError(
            name,
            f'{rows} rows of it need {nbytes / 2**30:.0f} GiB, but this '
            f'machine has {memory / 2**30:.0f} GiB; use windows of fewer rows '
            '(crop_size), or cut the scene into columns',
        )


def _limit() -> int:
    """Read the limit, each time: it may be raised for a file."""
    text = os.environ.get(MAX_PIXELS, str(_DEFAULT))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f'{MAX_PIXELS}={text!r}: expected a number of pixels, such as '
            f'{_DEFAULT}'
        )
    return int(text)
