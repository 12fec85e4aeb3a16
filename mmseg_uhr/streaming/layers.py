"""What the finished rows of a run hold."""

from typing import NamedTuple

from .rows import Outputs, label_dtype


class Layer(NamedTuple):
    """What the rows of one result look like.

    Args:
        dtype (str): NumPy name of the type.
        bands (int, optional): None for arrays (h, W), else (bands, h, W).
    """

    dtype: str
    bands: int | None = None

    def shape(self, rows: int, width: int) -> tuple[int, ...]:
        """Return the shape of an array of ``rows``."""
        size = (rows, width)
        return size if self.bands is None else (self.bands, *size)


def layers_of(classes: int, outputs: Outputs) -> dict[str, Layer]:
    """List the results of a run, by their names in :class:`FinishedRows`.

    Args:
        classes (int): How many the model tells apart.
        outputs (Outputs): What is wanted besides labels.

    Returns:
        dict[str, Layer]: At least ``labels``.
    """
    layers = {'labels': Layer(label_dtype(classes))}
    if outputs.probabilities:
        layers['probabilities'] = Layer('uint8', len(outputs.probabilities))
    if outputs.confidence:
        layers['confidence'] = Layer('uint8')
    return layers
