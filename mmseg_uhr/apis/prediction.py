"""What is predicted, with which model, from which bands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from ..rasters import Raster, RasterError, SceneLoader, as_raster
from ..streaming import FinishedRows, Outputs
from ..streaming.layers import Layer, layers_of
from .identity import run_identity
from .scenes import Scene

if TYPE_CHECKING:
    from mmengine.config import Config

    from ..deployment.runtime import OnnxSegmentor
    from ..models.segmentors import StreamingSegmentor


def test_loader(cfg: 'Config', bands: tuple[int, ...] | None) -> SceneLoader:
    """Build the first step of the test pipeline: bands, type and range.

    Args:
        cfg (Config): Ours or stock, whose images are 8-bit and colour.
        bands (tuple[int], optional): In place of the config's.

    Returns:
        SceneLoader: Opens scenes.
    """
    options = loader_options(cfg)
    return SceneLoader(**{**options, 'bands': bands or options.get('bands')})


def loader_options(cfg: 'Config') -> dict[str, Any]:
    """Return how the test pipeline of a config opens scenes.

    Args:
        cfg (Config): Ours or stock, whose images are 8-bit and colour.

    Returns:
        dict[str, Any]: Arguments of :class:`~mmseg_uhr.rasters.SceneLoader`.
    """
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    for step in dataset.get('pipeline', []):
        if step['type'] == 'mmseg_uhr.LoadRaster':
            return {k: v for k, v in step.items() if k != 'type'}
    return {}


@dataclass(frozen=True)
class Prediction:
    """Predicts scenes, all in one way.

    Args:
        model (StreamingSegmentor | OnnxSegmentor): Streams.
        network (Mapping[str, Any]): All that its logits depend on, for JSON;
            nothing, for maps that stay in memory.
        loader (SceneLoader): Opens files.
        outputs (Outputs): What is wanted besides labels.
    """

    model: Union['StreamingSegmentor', 'OnnxSegmentor']
    network: Mapping[str, Any]
    loader: SceneLoader
    outputs: Outputs

    @property
    def layers(self) -> dict[str, Layer]:
        """dict[str, Layer]: What finished rows hold."""
        return layers_of(self.model.out_channels, self.outputs)

    def open(self, scene: Scene) -> Raster:
        """Open a scene; a window of it has to fit into the budget.

        Args:
            scene (Scene): Files are opened by the loader; arrays are taken
                as they are, their bands in the model's order.

        Returns:
            Raster: Nothing but the header of a file has been read.

        Raises:
            RasterError: If it cannot be opened, or has other bands than the
                model expects.
            ValueError: If no window fits into the budget.
        """
        if isinstance(scene.image, (str, Path)):
            raster = self.loader.open(str(scene.image))
        else:
            raster = as_raster(scene.image)
            self._check_bands(raster)
        # Only to learn now whether a window fits.
        self.model.settings_for(raster)
        return raster

    def nodata(self, raster: Raster) -> int | None:
        """Choose a class id for pixels without data.

        Args:
            raster (Raster): The scene.

        Returns:
            int | None: None if all have data, or if all values of a byte are
            classes.
        """
        classes = self.model.out_channels
        if not raster.has_mask or classes == 256:
            return None
        return 255 if classes < 256 else -1

    def rows(
        self, raster: Raster, start: int, stop: int
    ) -> Iterator[FinishedRows]:
        """Predict rows of a scene.

        Args:
            raster (Raster): From :meth:`open`.
            start (int): First row.
            stop (int): Row after the last one.

        Returns:
            Iterator[FinishedRows]: From the top.
        """
        return self.model.stream(
            raster,
            outputs=self.outputs,
            rows=(start, stop),
            nodata=self.nodata(raster),
        )

    def identity(self, raster: Raster) -> dict[str, Any]:
        """Describe the prediction of a scene.

        Args:
            raster (Raster): From :meth:`open`.

        Returns:
            dict[str, Any]: All that its values depend on, for JSON.
        """
        settings = self.model.settings_for(raster)
        return run_identity(self.network, settings, raster, self.outputs)

    def _check_bands(self, raster: Raster) -> None:
        """Refuse an array with other bands than the model expects."""
        if raster.bands != (expected := self.loader.channels):
            raise RasterError(
                raster.name,
                f'has {raster.bands} band(s), but the model expects '
                f'{expected}; give an array (H, W, {expected}) or a tensor '
                f'({expected}, H, W)',
            )
