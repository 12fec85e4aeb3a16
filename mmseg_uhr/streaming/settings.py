"""How a raster is cut into windows and put together again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

from ..tiling import BLENDS, SYMMETRIES, TilePlan

ACCUMULATORS = ('float32', 'float16')
# Windows are not made smaller than this where memory runs out, pixels.
_SMALLEST = 64
# Sides of windows made smaller: what strides of networks divide.
_MULTIPLE = 32


@dataclass(frozen=True)
class StreamSettings:
    """How a raster is cut into windows and put together again.

    Args:
        crop_size (tuple[int]): ``(h, w)`` of a window in pixels.
        stride (tuple[int]): ``(h, w)`` from window to window in pixels.
        batch_size (int): Windows per forward pass. Defaults to 1.
        blend (str): ``'uniform'`` (as stock slide mode), ``'gaussian'``,
            ``'linear'``, ``'hann'`` or ``'centre'``, see
            :func:`~mmseg_uhr.tiling.blend_weights`.
        placement (str): ``'flush'`` (as stock slide mode) or ``'even'``, see
            :class:`~mmseg_uhr.tiling.TilePlan`.
        tta (str): Test-time augmentation, the mean of several predictions of
            each window: ``'none'``, ``'flip'`` (two) or ``'d4'`` (all eight
            mirrored and turned ones).
        tta_scales (tuple[float]): Sizes at which the network sees each
            window, as factors; the predictions are averaged, too. Defaults
            to ``(1.0,)``.
        accumulator (str): Type of the sums of logits: ``'float32'``, or
            ``'float16'``, half the memory and three digits.
        accumulate_on (str): Where these sums are: ``'device'``, that of the
            model, or ``'host'``, slower and for scenes that are too wide.

    Raises:
        ValueError: If a value makes no sense.
    """

    crop_size: tuple[int, int]
    stride: tuple[int, int]
    batch_size: int = 1
    blend: str = 'uniform'
    placement: str = 'flush'
    tta: str = 'none'
    tta_scales: tuple[float, ...] = (1.0,)
    accumulator: str = 'float32'
    accumulate_on: str = 'device'

    def __post_init__(self) -> None:
        check_sides('crop_size', self.crop_size)
        check_sides('stride', self.stride)
        for name, known in (
            ('blend', BLENDS),
            ('tta', tuple(SYMMETRIES)),
            ('accumulator', ACCUMULATORS),
            ('accumulate_on', ('device', 'host')),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f'test_cfg.{name}={getattr(self, name)!r}: expected one '
                    f'of {known}'
                )
        if not _is_number(self.batch_size, Integral) or self.batch_size < 1:
            raise ValueError(
                f'test_cfg.batch_size={self.batch_size!r}: expected a number '
                'of windows, at least 1'
            )
        scales = self.tta_scales
        if not isinstance(scales, (tuple, list)) or not (
            scales and all(_is_number(s) and 0 < s <= 8 for s in scales)
        ):
            raise ValueError(
                f'test_cfg.tta_scales={scales!r}: expected factors between 0 '
                'and 8, such as (0.75, 1.0, 1.25)'
            )
        # A plan of any raster checks what is left.
        self.plan((1, 1))

    def plan(self, shape: tuple[int, int]) -> TilePlan:
        """Return the windows of a raster of ``shape``, ``(H, W)``."""
        return TilePlan(shape, self.crop_size, self.stride, self.placement)

    def shrunk(self) -> 'StreamSettings | None':
        """Return settings with windows of half the sides.

        Returns:
            StreamSettings | None: None if they would be too small.
        """
        halves = tuple(
            side // 2 // _MULTIPLE * _MULTIPLE for side in self.crop_size
        )
        if min(halves) < _SMALLEST:
            return None
        # The overlap keeps its share of the window.
        strides = tuple(
            max(step * half // side, 1)
            for step, half, side in zip(
                self.stride, halves, self.crop_size, strict=True
            )
        )
        return replace(self, crop_size=halves, stride=strides, batch_size=1)

    @classmethod
    def from_test_cfg(cls, test_cfg: Mapping[str, Any]) -> 'StreamSettings':
        """Read the settings from a segmentor's ``test_cfg``.

        Args:
            test_cfg (Mapping): With ``mode='stream'``.

        Returns:
            StreamSettings: Checked.

        Raises:
            ValueError: If a field is missing or makes no sense.
        """
        missing = [k for k in ('crop_size', 'stride') if k not in test_cfg]
        if missing:
            raise ValueError(
                f"test_cfg has mode='stream' but lacks {' and '.join(missing)}"
                '; give both as (height, width) in pixels, e.g. '
                'crop_size=(1024, 1024), stride=(768, 768)'
            )
        given = {
            name: test_cfg[name]
            for name in cls.__dataclass_fields__
            if name in test_cfg
        }
        return cls(**given)


def check_sides(name: str, sides: Any) -> None:
    """Refuse what is no height and width.

    Args:
        name (str): Field of ``test_cfg``.
        sides (Any): Its value.

    Raises:
        ValueError: If it is not two whole numbers.
    """
    if (
        not isinstance(sides, (tuple, list))
        or len(sides) != 2
        or not all(_is_number(side, Integral) for side in sides)
    ):
        raise ValueError(
            f'test_cfg.{name}={sides!r}: expected (height, width) in pixels, '
            'such as (1024, 1024)'
        )


def _is_number(value: Any, kind: type = Real) -> bool:
    """Tell numbers from all else; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)
