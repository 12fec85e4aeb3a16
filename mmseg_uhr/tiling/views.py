"""What a network sees of a window: one spec for training and testing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from .window import Window

LOCAL = 'local'


@dataclass(frozen=True)
class View:
    """A region that belongs to a window, read at a fixed size.

    Args:
        region (str | float): ``'window'``, ``'scene'`` (the whole raster) or
            a factor: that many times the window's height and width around
            its centre.
        size (tuple[int], optional): ``(h, w)`` that the network sees, pixels.
        scale (float, optional): Instead of ``size``: pixels of the view per
            pixel of the region. Defaults to 1 without ``size``.
        fill (float): Value of pixels outside the raster. Defaults to 0.
        resampling (str): ``'area'``, which reads no more pixels than it
            needs, or ``'pillow'``: the region is read as it is and resized as
            Pillow's bilinear filter does, for networks that were trained so,
            such as FCtL's. Defaults to ``'area'``.

    Raises:
        ValueError: If the region or the resampling is unknown, or size and
            scale are given.
    """

    region: Union[str, float] = 'window'
    size: tuple[int, int] | None = None
    scale: float | None = None
    fill: float = 0
    resampling: str = 'area'

    def __post_init__(self) -> None:
        named = self.region in ('window', 'scene')
        if not named and (
            isinstance(self.region, str) or not self.region >= 1
        ):
            raise ValueError(
                f"view region {self.region!r}: expected 'window', 'scene' or "
                'a factor of at least 1'
            )
        if self.resampling not in ('area', 'pillow'):
            raise ValueError(
                f'view resampling {self.resampling!r}: expected '
                "'area' or 'pillow'"
            )
        if self.size is not None and self.scale is not None:
            raise ValueError(
                f'view {self}: give size (pixels) or scale, not both'
            )

    @property
    def whole_scene(self) -> bool:
        """bool: The same pixels for every window of a raster."""
        return self.region == 'scene'

    def region_of(self, window: Window, shape: tuple[int, int]) -> Window:
        """Return the region of a window.

        Args:
            window (Window): The local window.
            shape (tuple[int]): ``(H, W)`` of the raster.

        Returns:
            Window: May stick out of the raster.
        """
        if self.region == 'window':
            return window
        if self.region == 'scene':
            return Window(0, 0, *shape)
        return window.grown(self.region)

    def size_of(self, region: Window) -> tuple[int, int]:
        """Return the ``(h, w)`` in pixels at which a region is seen."""
        if self.size is not None:
            return tuple(self.size)
        scale = self.scale or 1
        return max(round(region.h * scale), 1), max(round(region.w * scale), 1)


def parse_views(views: Mapping[str, dict] | None) -> dict[str, View]:
    """Make views from their configs; the local view is always there, first.

    Args:
        views (Mapping[str, dict], optional): Arguments of :class:`View` by
            name, e.g. ``dict(context=dict(region=3, size=(512, 512)))``.

    Returns:
        dict[str, View]: Of the names; ``'local'`` is the window itself unless
        it is given.

    Raises:
        ValueError: If a view is not a mapping of :class:`View`'s arguments.
    """
    parsed = {LOCAL: View()}
    for name, view in (views or {}).items():
        try:
            parsed[name] = View(**view)
        except TypeError as error:
            raise ValueError(
                f'view {name!r}: {view!r}: expected a dict with region and '
                f'size or scale ({error})'
            ) from error
    return parsed
