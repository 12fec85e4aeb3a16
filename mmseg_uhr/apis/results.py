"""What becomes of scenes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class SceneResult:
    """What became of a scene.

    Args:
        image (str): Its name.
        out (Path, optional): The map.
        labels (np.ndarray, optional): Class ids (H, W), if they were to stay
            in memory.
        probabilities (np.ndarray, optional): Likewise, ``uint8`` (k, H, W),
            255 meaning 1, of the classes asked for.
        confidence (np.ndarray, optional): Likewise, ``uint8`` (H, W).
        megapixels (float): Size of the scene.
        predicted (float): Megapixels that were predicted by this call, in
            all processes; the others were there.
        seconds (float): Of reading, predicting and writing.
        skipped (bool): Whether the map was finished already.
    """

    image: str
    out: Path | None = None
    labels: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    confidence: np.ndarray | None = None
    megapixels: float = 0.0
    predicted: float = 0.0
    seconds: float = 0.0
    skipped: bool = False

    @property
    def seconds_per_megapixel(self) -> float:
        """float: Of what was predicted; 0 if nothing was."""
        return self.seconds / self.predicted if self.predicted else 0.0
