"""The eight ways to turn and mirror a square by right angles."""

from typing import NamedTuple

import torch
from torch import Tensor


class Symmetry(NamedTuple):
    """Mirror left to right, then turn counter-clockwise.

    Args:
        mirror (bool): Whether to mirror.
        turns (int): Right angles.
    """

    mirror: bool = False
    turns: int = 0

    def apply(self, x: Tensor) -> Tensor:
        """Mirror and turn maps (..., h, w); odd turns make (..., w, h)."""
        if self.mirror:
            x = x.flip(-1)
        return torch.rot90(x, self.turns, (-2, -1)) if self.turns else x

    def undo(self, x: Tensor) -> Tensor:
        """Turn back and mirror maps (..., h, w)."""
        if self.turns:
            x = torch.rot90(x, -self.turns, (-2, -1))
        return x.flip(-1) if self.mirror else x

    def apply_to_boxes(self, boxes: Tensor) -> Tensor:
        """Do to boxes in a map what :meth:`apply` does to the map.

        Args:
            boxes (Tensor): ``(y, x, h, w)`` in fractions of the map, (N, 4).

        Returns:
            Tensor: In fractions of the turned map, (N, 4).
        """
        y, x, h, w = boxes.unbind(dim=1)
        if self.mirror:
            x = 1 - x - w
        for _ in range(self.turns % 4):
            y, x, h, w = 1 - x - w, y, w, h
        return torch.stack((y, x, h, w), dim=1)


# By what test-time augmentation calls them.
SYMMETRIES = {
    'none': (Symmetry(),),
    'flip': (Symmetry(), Symmetry(mirror=True)),
    'd4': tuple(
        Symmetry(mirror, turns)
        for mirror in (False, True)
        for turns in range(4)
    ),
}
