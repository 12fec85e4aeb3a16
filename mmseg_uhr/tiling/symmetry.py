"""The eight ways to turn and mirror a square by right angles."""

from typing import NamedTuple

from .arrays import ArrayLike, operations_of


class Symmetry(NamedTuple):
    """Mirror left to right, then turn counter-clockwise.

    Args:
        mirror (bool): Whether to mirror.
        turns (int): Right angles.
    """

    mirror: bool = False
    turns: int = 0

    def apply(self, x: ArrayLike) -> ArrayLike:
        """Mirror and turn maps (..., h, w); odd turns make (..., w, h)."""
        module = operations_of(x).module
        if self.mirror:
            x = module.flip(x, (-1,))
        return module.rot90(x, self.turns, (-2, -1)) if self.turns else x

    def undo(self, x: ArrayLike) -> ArrayLike:
        """Turn back and mirror maps (..., h, w)."""
        module = operations_of(x).module
        if self.turns:
            x = module.rot90(x, -self.turns, (-2, -1))
        return module.flip(x, (-1,)) if self.mirror else x

    def apply_to_boxes(self, boxes: ArrayLike) -> ArrayLike:
        """Do to boxes in a map what :meth:`apply` does to the map.

        Args:
            boxes (ArrayLike): ``(y, x, h, w)`` in fractions of the map,
                (N, 4).

        Returns:
            ArrayLike: In fractions of the turned map, (N, 4).
        """
        y, x, h, w = (boxes[:, i] for i in range(4))
        if self.mirror:
            x = 1 - x - w
        for _ in range(self.turns % 4):
            y, x, h, w = 1 - x - w, y, w, h
        return operations_of(boxes).module.stack((y, x, h, w), 1)


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
