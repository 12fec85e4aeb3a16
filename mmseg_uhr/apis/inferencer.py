"""From a config, a checkpoint and scenes of any size to maps."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Union

from mmengine.config import Config
from mmengine.dist import get_dist_info

from ..rasters import RasterLike
from ..rasters.polygons import check_polygon_path
from ..streaming import Outputs
from ..streaming.parts import PartStore
from .arrays import segment_into_memory
from .identity import file_identity
from .jobs import MapJob
from .maps import MapStyle
from .prediction import Prediction, test_loader
from .progress import ProgressLike
from .ranks import decide_together
from .results import SceneResult
from .runs import MapRun
from .scenes import Scene, find_scenes, is_one_scene
from .segmentor import init_segmentor


class UHRInferencer:
    """Segments scenes of any size with any model that streams.

    Inside a process group of ``torch.distributed`` the processes share the
    scenes; the files are those of one process.

    Args:
        config (str | Path | Config): Ours or stock, see
            :func:`~mmseg_uhr.apis.init_segmentor`.
        checkpoint (str | Path): Weights.
        device (str, optional): E.g. ``'cuda:0'``. Defaults to the best.
        budget (str | int | float, optional): Memory of the device that may
            be used, see :func:`~mmseg_uhr.memory.parse_budget`. Defaults to
            ``test_cfg.budget`` of the config.
        cfg_options (dict, optional): Overrides, as ``--cfg-options``.
        **build: See :func:`~mmseg_uhr.apis.init_segmentor`.

    Attributes:
        model (StreamingSegmentor): In eval mode.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | None = None,
        budget: Union[str, int, float, None] = None,
        cfg_options: dict[str, Any] | None = None,
        **build: Any,
    ) -> None:
        self.model = init_segmentor(
            config, checkpoint, device, cfg_options, **build
        )
        self.checkpoint = checkpoint
        self._precision = build.get('precision', 'fp32')
        if budget is not None:
            self.model.test_cfg.budget = budget
        self._jobs: list[MapJob] = []

    def __call__(
        self,
        inputs: RasterLike | Sequence[RasterLike],
        out: str | Path | None = None,
        *,
        overlay: str | Path | None = None,
        probabilities: Sequence[str | int] = (),
        confidence: bool = False,
        polygons: str | Path | None = None,
        cog: bool = False,
        resume: bool = False,
        overwrite: bool = False,
        bands: Sequence[int] | None = None,
        progress: ProgressLike = True,
    ) -> SceneResult | list[SceneResult]:
        """Segment scenes.

        While a map on disk is made, its finished rows are kept in
        ``<out>.parts``, so that a run that ends early can be resumed.

        Args:
            inputs (RasterLike | Sequence[RasterLike]): A file, an array
                (H, W, bands), blue-green-red as OpenCV gives it, or a tensor
                (bands, H, W); or several: a list of these, a folder, a
                pattern, or a ``.txt`` file of paths.
            out (str | Path, optional): The map to write, in ``.tif`` or
                ``.png``; for several scenes a folder. By default maps stay in
                memory.
            overlay (str | Path, optional): Picture to write, the classes over
                the down-sampled scene; for several scenes a folder.
            probabilities (Sequence[str | int]): Classes whose probabilities
                are wanted, too, by name or id; in
                ``<stem>.probabilities.tif``.
            confidence (bool): Whether the probability of the chosen class is
                wanted; in ``<stem>.confidence.tif``.
            polygons (str | Path, optional): Polygons to write, ``.gpkg`` or
                ``.geojson``; for several scenes a folder of ``.gpkg``.
            cog (bool): Whether GeoTIFFs become cloud-optimised.
            resume (bool): Whether to go on with an interrupted run of the
                same kind, and to skip scenes whose maps are finished.
            overwrite (bool): Whether to throw away an interrupted run.
            bands (Sequence[int], optional): Bands of the files to use,
                counted from 1.
            progress (bool | Callable): Whether to show a progress bar, or
                what to call with pixels done and pixels in all.

        Returns:
            SceneResult | list[SceneResult]: A list if ``inputs`` are several.

        Raises:
            RasterError: If a scene cannot be read or a map not written.
            ScenesError: If several scenes cannot be read.
            ValueError: If the arguments make no sense.
            RankError: If another process has failed.
        """
        self._jobs = []
        scenes = find_scenes(inputs, out)
        ids = tuple(map(self._class_id, probabilities))
        prediction = Prediction(
            self.model,
            {} if out is None else self._checkpoint_identity,
            test_loader(self.model.cfg, bands and tuple(bands)),
            Outputs(ids, confidence),
            self._precision,
        )
        title = scenes[0].name if len(scenes) == 1 else f'{len(scenes)} scenes'
        if out is None:
            if overlay or polygons or resume or get_dist_info()[1] > 1:
                raise ValueError(
                    'overlay, polygons, resume and several processes need '
                    'maps on disk: give out'
                )
            results = segment_into_memory(scenes, prediction, progress, title)
            return results[0] if is_one_scene(inputs) else results
        if resume and overwrite:
            raise ValueError('resume and overwrite: choose one of them')
        style = MapStyle(
            self.classes,
            self.model.dataset_meta.get('palette'),
            probabilities=[self.classes[i] for i in ids],
            cog=cog,
        )
        drawn = _beside(overlay, scenes, '.png')
        outlined = _beside(polygons, scenes, '.gpkg')
        if polygons is not None:
            check_polygon_path(outlined[0])

        def prepare() -> list[MapJob]:
            """Look at all scenes before any is segmented."""
            self._jobs = [
                _job(scene, prediction, style, *extras)
                for scene, *extras in zip(scenes, drawn, outlined, strict=True)
            ]
            for job in self._jobs:
                job.prepare(resume, overwrite)
            return self._jobs

        try:
            self._jobs = decide_together(prepare)
            tallies = MapRun(self._jobs, prediction)(progress, title)
        finally:
            self._tidy()
        results = [
            SceneResult(
                job.scene.name,
                job.scene.out,
                megapixels=job.pixels / 1e6,
                predicted=tally.pixels / 1e6,
                seconds=tally.seconds,
                skipped=job.missing is None,
            )
            for job, tally in zip(self._jobs, tallies, strict=True)
        ]
        return results[0] if is_one_scene(inputs) else results

    @property
    def kept(self) -> dict[Path, float]:
        """dict[Path, float]: What the last call, if it ended early, has left.

        Folders of finished parts, and which share of its scene each holds.
        """
        shares = {job.store.folder: job.store.kept() for job in self._jobs}
        return {folder: share for folder, share in shares.items() if share}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """tuple[str]: Names of the class ids; without names, the ids."""
        names = tuple(self.model.dataset_meta.get('classes') or ())
        ids = range(len(names), self._class_count)
        return names + tuple(map(str, ids))

    @property
    def _class_count(self) -> int:
        """int: One channel tells a class from the background."""
        return max(self.model.out_channels, 2)

    @cached_property
    def _checkpoint_identity(self) -> dict[str, str]:
        """dict[str, str]: Read once."""
        return file_identity(self.checkpoint)

    def _class_id(self, name: str | int) -> int:
        """Return the id of a class."""
        if name in self.classes:
            return self.classes.index(name)
        if str(name).isdecimal() and int(name) < self._class_count:
            return int(name)
        raise ValueError(
            f'probabilities: no class {name!r}; there are '
            f'{", ".join(self.classes)}'
        )

    def _tidy(self) -> None:
        """Remove folders in which there is nothing to go on with."""
        if get_dist_info()[0] == 0:
            for job in self._jobs:
                if job.store.folder.exists() and not job.store.kept():
                    job.store.remove()


def _job(
    scene: Scene,
    prediction: Prediction,
    style: MapStyle,
    overlay: Path | None,
    polygons: Path | None,
) -> MapJob:
    """Make the job of a scene, reading the scene's header."""
    raster = prediction.open(scene)
    store = PartStore(
        f'{scene.out}.parts',
        raster.shape,
        prediction.layers,
        prediction.identity(raster),
    )
    return MapJob(scene, store, style, overlay, polygons)


def _beside(
    path: str | Path | None, scenes: Sequence[Scene], suffix: str
) -> list[Path | None]:
    """Name a file for each scene; in a folder, if there are several."""
    if path is None:
        return [None] * len(scenes)
    if len(scenes) == 1:
        return [Path(path)]
    if Path(path).suffix and not Path(path).is_dir():
        raise ValueError(
            f'{path}: one file for {len(scenes)} scenes; give a folder'
        )
    return [Path(path) / f'{scene.out.stem}{suffix}' for scene in scenes]
