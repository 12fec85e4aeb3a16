"""What the loop asks of arrays and of tensors: the same, by one name."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Union

import cv2
import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    #: What networks of NumPy's runtimes, or of PyTorch, give and take.
    ArrayLike = Union[np.ndarray, Tensor]
else:
    ArrayLike = Any


def loaded_torch() -> ModuleType | None:
    """Return PyTorch if it has been imported.

    Before that there are no tensors, no graphs and no errors of its.

    Returns:
        ModuleType | None: The module.
    """
    return sys.modules.get('torch')


class ArrayOperations:
    """Operations on NumPy's arrays.

    Those on tensors have the same names,
    see :class:`~mmseg_uhr.tiling.tensors.TensorOperations`.

    Attributes:
        module (ModuleType): ``numpy`` or ``torch``, for what both call alike
            and take by position.
    """

    module: ModuleType = np

    def zeros(
        self, size: tuple[int, ...], like: ArrayLike, dtype: str, host: bool
    ) -> ArrayLike:
        """Make an array of zeros.

        Args:
            size (tuple[int]): Its shape.
            like (ArrayLike): What is on the device where it is to be, and has
                the least precision that it is to have.
            dtype (str): Name of its type, unless ``like`` has more digits
                than float32.
            host (bool): Whether it is to be in host memory instead. It is
                there, too, if the device's does not suffice.

        Returns:
            ArrayLike: The array.
        """
        return np.zeros(size, like.dtype if like.itemsize > 4 else dtype)

    def on_host(self, values: ArrayLike) -> bool:
        """Tell whether values are in host memory."""
        return True

    def to_host(self, values: ArrayLike) -> ArrayLike:
        """Bring values to host memory."""
        return values

    def converted(self, values: ArrayLike, like: ArrayLike) -> ArrayLike:
        """Give values the type and the device of others."""
        return values.astype(like.dtype, copy=False)

    def placed(self, values: ArrayLike, like: ArrayLike) -> ArrayLike:
        """Bring values to the device of others; their type stays."""
        return values

    def add_product(
        self, sums: ArrayLike, values: ArrayLike, weights: ArrayLike
    ) -> None:
        """Add ``values * weights`` (h, w) to ``sums`` (C, h, w) in place."""
        # By channel: the product of all would take as much memory again.
        for channel, one in zip(sums, values, strict=True):
            channel += one * weights

    def fill(self, values: ArrayLike, where: ArrayLike, value: int) -> None:
        """Set values to a number in place, where a mask says so."""
        np.copyto(values, value, where=where)

    def float32(self, values: ArrayLike) -> ArrayLike:
        """Give values single precision."""
        return values.astype(np.float32, copy=False)

    def sigmoid(self, values: ArrayLike) -> ArrayLike:
        """Return ``1 / (1 + exp(-values))``."""
        # By the hyperbolic tangent, which does not overflow.
        return 0.5 * (1 + np.tanh(0.5 * values))

    def softmax(self, logits: ArrayLike) -> ArrayLike:
        """Return the softmax over the first axis."""
        found = np.exp(logits - logits.max(0))
        found /= found.sum(0)
        return found

    def chosen(self, values: ArrayLike, index: ArrayLike) -> ArrayLike:
        """Take of values (C, h, w) those that an index (h, w) names."""
        return np.take_along_axis(values, index[None].astype(np.intp), 0)[0]

    def as_bytes(self, values: ArrayLike) -> ArrayLike:
        """Store values from 0 to 1 in a byte each."""
        return np.rint(values * 255).astype(np.uint8)

    def resized(self, maps: ArrayLike, size: tuple[int, int]) -> ArrayLike:
        """Resize maps (n, C, h, w) bilinearly.

        Args:
            maps (ArrayLike): The maps.
            size (tuple[int]): ``(h, w)`` wanted; corners are not aligned, and
                there is no anti-aliasing.

        Returns:
            ArrayLike: Shape (n, C, *size).
        """
        found = np.empty((*maps.shape[:2], *size), np.float32)
        for target, source in zip(found, maps, strict=True):
            for channel, one in zip(target, source, strict=True):
                one = np.ascontiguousarray(one, np.float32)
                channel[:] = cv2.resize(one, size[::-1])
        return found

    def as_sum(self, values: ArrayLike) -> ArrayLike:
        """Copy values to which others will be added, in float32 or finer."""
        return values.astype(np.promote_types(values.dtype, np.float32))


_ARRAYS = ArrayOperations()


def operations_of(values: ArrayLike) -> ArrayOperations:
    """Choose the operations that fit values.

    Args:
        values (ArrayLike): An array of NumPy or a tensor of PyTorch.

    Returns:
        ArrayOperations: Theirs.
    """
    if isinstance(values, (np.ndarray, np.generic)):
        return _ARRAYS
    from .tensors import TENSORS

    return TENSORS
