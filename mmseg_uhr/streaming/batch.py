"""Windows that go through the network together."""

from dataclasses import dataclass, field

import numpy as np

from ..tiling import Window
from ..tiling.arrays import ArrayLike


@dataclass(frozen=True)
class WindowBatch:
    """Windows of one raster and what the network sees of them.

    Args:
        windows (list[Window]): Where they lie; those to predict.
        inputs (list[dict[str, ArrayLike]]): Views (bands, h, w) by name, one
            dict per window; tensors or arrays.
        boxes (list[dict[str, tuple[float]]]): Where each window lies in its
            views, ``(y, x, h, w)`` as fractions of the view.
        masks (list[tuple[Window, np.ndarray | None]]): All windows of the
            batch, also those without data, which are not predicted, and
            which of their pixels (h, w) have data; None means all.
    """

    windows: list[Window]
    inputs: list[dict[str, ArrayLike]]
    boxes: list[dict[str, tuple[float, float, float, float]]]
    masks: list[tuple[Window, np.ndarray | None]] = field(default_factory=list)

    def part(self, first: int, limit: int | None) -> 'WindowBatch':
        """Take some of the windows.

        Args:
            first (int): Index of the first one.
            limit (int, optional): How many at most. None: all that follow.

        Returns:
            WindowBatch: Of at least one window.
        """
        some = slice(first, None if limit is None else first + limit)
        return WindowBatch(
            self.windows[some], self.inputs[some], self.boxes[some]
        )
