"""From a config, a checkpoint and scenes of any size to maps."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from .. import compat
from ..compat import rank_and_world
from ..rasters import RasterError, RasterLike, SceneLoader
from ..rasters.polygons import check_polygon_path
from ..streaming import Outputs
from ..streaming.parts import PartStore
from .arrays import segment_into_memory
from .identity import network_identity
from .jobs import MapJob
from .maps import MapStyle
from .prediction import Prediction, test_loader
from .progress import ProgressLike
from .ranks import decide_together
from .results import SceneResult
from .runs import MapRun, Tally, raise_failures
from .scenes import Scene, find_scenes, is_one_scene, refuse_replacing

if TYPE_CHECKING:
    from mmengine.config import Config

BACKENDS = ('torch', 'onnxruntime')


class UHRInferencer:
    """Segments scenes of any size with any model that streams.

    Inside a process group of ``torch.distributed`` the processes share the
    scenes; the files are those of one process.

    Args:
        config (str | Path | Config): Ours or stock, see
            :func:`~mmseg_uhr.apis.init_segmentor`; for ``'onnxruntime'`` a
            file of ``tools/deployment/export.py``.
        checkpoint (str | Path, optional): Weights; an exported network has
            its own.
        device (str, optional): E.g. ``'cuda:0'``. Defaults to the best; for
            ``'onnxruntime'`` see
            :class:`~mmseg_uhr.deployment.runtime.OnnxSegmentor`.
        budget (str | int | float, optional): Memory of the device that may
            be used, see :func:`~mmseg_uhr.memory.parse_budget`. Defaults to
            ``test_cfg.budget`` of the config. Only PyTorch's networks can be
            planned.
        cfg_options (dict, optional): Overrides, as ``--cfg-options``; of an
            exported network ``model.test_cfg.<field>`` of
            :class:`~mmseg_uhr.streaming.StreamSettings`.
        backend (str): What runs the network: ``'torch'`` or
            ``'onnxruntime'``, which needs neither PyTorch nor
            MMSegmentation. Defaults to ``'torch'``.
        **build: See :func:`~mmseg_uhr.apis.init_segmentor`.

    Attributes:
        model (StreamingSegmentor | OnnxSegmentor): What streams.

    Raises:
        ImportError: If what the backend needs is not installed.
        ValueError: If the arguments do not fit the backend, or see
            :func:`~mmseg_uhr.apis.init_segmentor`.
    """

    def __init__(
        self,
        config: Union[str, Path, 'Config'],
        checkpoint: str | Path | None = None,
        device: str | None = None,
        budget: Union[str, int, float, None] = None,
        cfg_options: dict[str, Any] | None = None,
        backend: str = 'torch',
        **build: Any,
    ) -> None:
        self._jobs: list[MapJob] = []
        self._loader: Callable[[tuple[int, ...] | None], SceneLoader]
        self._identity: Callable[[], dict[str, Any]]
        if backend not in BACKENDS:
            raise ValueError(
                f'backend {backend!r}: expected one of {BACKENDS}'
            )
        if backend == 'onnxruntime':
            given = dict(build, checkpoint=checkpoint, budget=budget)
            _refuse_for_onnx(config, given)
            self._open_onnx(config, device, cfg_options)
            return
        if checkpoint is None:
            raise ValueError(
                f'{config}: give a checkpoint, too; a network of '
                "tools/deployment/export.py needs none: backend='onnxruntime'"
            )
        self._open_torch(config, checkpoint, device, cfg_options, build)
        if budget is not None:
            self.model.test_cfg.budget = budget

    def _open_torch(
        self,
        config: Union[str, Path, 'Config'],
        checkpoint: str | Path,
        device: str | None,
        cfg_options: dict[str, Any] | None,
        build: dict[str, Any],
    ) -> None:
        """Build a segmentor of a config."""
        compat.check_stack()
        from .segmentor import init_segmentor

        self.model = init_segmentor(
            config, checkpoint, device, cfg_options, **build
        )
        cfg, precision = self.model.cfg, build.get('precision', 'fp32')
        self._loader = partial(test_loader, cfg)
        self._identity = partial(network_identity, cfg, checkpoint, precision)

    def _open_onnx(
        self,
        path: str | Path,
        device: str | None,
        cfg_options: dict[str, Any] | None,
    ) -> None:
        """Open an exported network."""
        from ..deployment.runtime import OnnxSegmentor

        self.model = OnnxSegmentor(path, device or 'cpu', cfg_options)
        self._loader, self._identity = self.model.loader, self.model.identity

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
        retries: int = 0,
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
            retries (int): How often scenes that cannot be read are tried
                again, after all others; files may still be arriving.
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
            {} if out is None else self._network_identity,
            self._loader(bands and tuple(bands)),
            Outputs(ids, confidence),
        )
        title = scenes[0].name if len(scenes) == 1 else f'{len(scenes)} scenes'
        if out is None:
            if overlay or polygons or resume or rank_and_world()[1] > 1:
                raise ValueError(
                    'overlay, polygons, resume and several processes need '
                    'maps on disk: give out'
                )
            results = segment_into_memory(scenes, prediction, progress, title)
            return results[0] if is_one_scene(inputs) else results
        if resume and overwrite:
            raise ValueError('resume and overwrite: choose one of them')
        if retries < 0:
            raise ValueError(f'retries={retries}: expected 0 or more')
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

        def prepare(
            todo: Sequence[int], again: bool
        ) -> tuple[dict[int, MapJob], dict[int, Exception]]:
            """Look at all scenes before any is segmented."""
            found: dict[int, MapJob] = {}
            unreadable: dict[int, Exception] = {}
            for i in todo:
                try:
                    found[i] = _job(
                        scenes[i], prediction, style, drawn[i], outlined[i]
                    )
                except RasterError as error:
                    if error.name != scenes[i].name:
                        raise
                    unreadable[i] = error
            self._jobs = [*(jobs | found).values()]
            for job in found.values():
                job.prepare(resume or again, overwrite and not again)
            return found, unreadable

        jobs: dict[int, MapJob] = {}
        tallies = [Tally() for _ in scenes]
        failures: dict[int, Exception] = {}
        todo: Sequence[int] = range(len(scenes))
        try:
            for attempt in range(1 + retries):
                found, failures = decide_together(
                    partial(prepare, todo, attempt > 0)
                )
                jobs |= found
                self._jobs = [*jobs.values()]
                run = MapRun([*found.values()], prediction)
                for i, tally in zip(found, run(progress, title), strict=True):
                    tallies[i].pixels += tally.pixels
                    tallies[i].seconds += tally.seconds
                    if tally.failure:
                        failures[i] = tally.failure
                todo = sorted(failures)
                if not todo:
                    break
        finally:
            self._tidy()
        raise_failures([failures[i] for i in todo], len(scenes))
        results = [
            SceneResult(
                job.scene.name,
                job.scene.out,
                megapixels=job.pixels / 1e6,
                # Rows before a failure count twice.
                predicted=min(tally.pixels, job.pixels) / 1e6,
                seconds=tally.seconds,
                skipped=job.missing is None,
            )
            for job, tally in zip(
                (jobs[i] for i in range(len(scenes))), tallies, strict=True
            )
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
    def _network_identity(self) -> dict[str, Any]:
        """dict[str, Any]: Files are read once."""
        return self._identity()

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
        if rank_and_world()[0] == 0:
            for job in self._jobs:
                if job.store.folder.exists() and not job.store.kept():
                    job.store.remove()


def _refuse_for_onnx(config: Any, given: dict[str, Any]) -> None:
    """Refuse arguments that an exported network cannot heed."""
    if given['budget'] is not None:
        raise ValueError(
            f'{config}: onnxruntime tells nobody what it will need, so no '
            'budget can be planned; plan with tools/plan_memory.py where '
            'PyTorch is, and set crop_size, batch_size and accumulator '
            'accordingly'
        )
    names = [name for name, value in given.items() if value]
    if names:
        raise ValueError(
            f'{config}: {", ".join(names)}: not for an exported network, '
            'which has its weights and its precision already'
        )


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
    """Name a file for each scene; in a folder, unless that is one file."""
    if path is None:
        return [None] * len(scenes)
    path = Path(path)
    files = [path / f'{scene.out.stem}{suffix}' for scene in scenes]
    if path.suffix and not path.is_dir():
        if len(scenes) > 1:
            raise ValueError(
                f'{path}: one file for {len(scenes)} scenes; give a folder'
            )
        files = [path]
    refuse_replacing(scenes, files)
    return files
