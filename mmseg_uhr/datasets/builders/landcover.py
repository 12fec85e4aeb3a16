"""Label maps from two independent sources: coastlines and land cover."""

import cv2
import numpy as np

from ..bluemarble import BlueMarbleDataset
from . import gshhg

IGNORE = 255

# IGBP codes of each class, in the order that decides ties. None: wetlands
# and cities are too small to be learnt at 7 km a pixel, so they are ignored.
_IGBP: tuple[tuple[str | None, tuple[int, ...]], ...] = (
    ('forest_temperate_boreal', (1, 3, 4, 5)),
    ('forest_tropical', (2,)),
    ('shrubland', (6, 7)),
    ('savanna', (8, 9)),
    ('grassland', (10,)),
    (None, (11,)),
    ('cropland', (12, 14)),
    (None, (13,)),
    ('ice', (15,)),
    ('barren', (16,)),
)
_IGBP_WATER = 0
# South of this, IGBP calls ice shelves water, in degrees. The coastline of
# Antarctica follows the ice front, so that is no contradiction.
_SHELF_LATITUDE = -60
# Rows that are voted on at a time, to bound memory.
_STRIP = 256


def class_id(name: str | None) -> int:
    """Return the id of a class of ``BlueMarbleDataset``; None is ignored."""
    if name is None:
        return IGNORE
    return BlueMarbleDataset.METAINFO['classes'].index(name)


def merge(coasts: np.ndarray, igbp: np.ndarray, width: int) -> np.ndarray:
    """Make the label map of the Earth.

    Sea and lakes are GSHHG's, and so is the ice of Antarctica; the rest of
    the land is IGBP's. Where one source says land and the other water,
    pixels are ignored: the image is ambiguous there, too.

    Args:
        coasts (np.ndarray): ``uint8`` (h, w) of ``gshhg.SEA`` and so on, w a
            multiple of ``width``.
        igbp (np.ndarray): ``uint8`` (h', w') of IGBP codes 0-16.
        width (int): Of the label map in pixels; it is half as high.

    Returns:
        np.ndarray: ``uint8`` (width / 2, width) of class ids and 255.
    """
    coast = vote_coasts(coasts, width)
    cover, is_land = vote_land_cover(igbp, width)
    labels = cover
    labels[coast == gshhg.SEA] = class_id('sea')
    labels[coast == gshhg.LAKE] = class_id('lake')
    labels[coast == gshhg.ICE] = class_id('ice')
    shelf_row = width // 2 * (90 - _SHELF_LATITUDE) // 180
    contradiction = (coast == gshhg.LAND) & ~is_land
    contradiction |= (coast == gshhg.SEA) & is_land
    contradiction[:shelf_row] |= ((coast == gshhg.ICE) & ~is_land)[:shelf_row]
    labels[contradiction] = IGNORE
    return labels


def vote_coasts(coasts: np.ndarray, width: int) -> np.ndarray:
    """Return what most of the fine pixels in each pixel are.

    Args:
        coasts (np.ndarray): ``uint8`` (h, w) of ``gshhg.SEA`` and so on, w a
            multiple of ``width``.
        width (int): Of the result in pixels.

    Returns:
        np.ndarray: ``uint8`` (width / 2, width); ties go to the lowest id.
    """
    factor = coasts.shape[1] // width
    ids = (gshhg.SEA, gshhg.LAND, gshhg.LAKE, gshhg.ICE)
    result = np.empty((width // 2, width), np.uint8)
    for y in range(0, len(result), _STRIP):
        strip = coasts[y * factor : (y + _STRIP) * factor]
        strip = strip.reshape(-1, factor, width, factor)
        votes = [(strip == i).sum((1, 3), dtype=np.uint16) for i in ids]
        result[y : y + _STRIP] = np.argmax(votes, 0)
    return result


def vote_land_cover(
    igbp: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bring IGBP codes to the classes and the grid of the data set.

    A coarser grid gets the class that covers most of each pixel, a finer one
    the nearest code.

    Args:
        igbp (np.ndarray): ``uint8`` (h', w') of IGBP codes.
        width (int): Of the result in pixels.

    Returns:
        tuple: ``uint8`` (width / 2, width) of class ids, meaningful on land
        only, and ``bool`` (width / 2, width), where land is.
    """
    size = width, width // 2
    if width >= igbp.shape[1]:
        codes = cv2.resize(igbp, size, interpolation=cv2.INTER_NEAREST)
        table = np.full(256, IGNORE, np.uint8)
        for name, members in _IGBP:
            table[list(members)] = class_id(name)
        return table[codes], codes != _IGBP_WATER

    def share(code: int) -> np.ndarray:
        """Return the share of a code in each pixel, 0-255."""
        mask = (igbp == code).astype(np.uint8) * 255
        return cv2.resize(mask, size, interpolation=cv2.INTER_AREA)

    cover = np.full(size[::-1], IGNORE, np.uint8)
    most = np.zeros(size[::-1], np.uint16)
    for name, members in _IGBP:
        votes = sum(share(code).astype(np.uint16) for code in members)
        wins = votes > most
        cover[wins] = class_id(name)
        most[wins] = votes[wins]
    return cover, share(_IGBP_WATER) < 128


def near_boundary(labels: np.ndarray, distance: int = 2) -> np.ndarray:
    """Tell which pixels have another label close by.

    Args:
        labels (np.ndarray): ``uint8`` (h, w); 255 counts as a label.
        distance (int): In pixels, along rows and columns; 1 means a direct
            neighbour.

    Returns:
        np.ndarray: ``bool`` (h, w).
    """
    edge = np.zeros(labels.shape, np.uint8)
    beside = labels[:, 1:] != labels[:, :-1]
    edge[:, 1:] |= beside
    edge[:, :-1] |= beside
    below = labels[1:] != labels[:-1]
    edge[1:] |= below
    edge[:-1] |= below
    side = 2 * distance - 1
    return cv2.dilate(edge, np.ones((side, side), np.uint8)) > 0
