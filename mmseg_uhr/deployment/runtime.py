"""Exported networks over scenes of any size, without PyTorch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..apis.identity import file_identity
from ..rasters import Raster, SceneLoader, as_raster
from ..rasters.padded import PaddedRaster
from ..streaming import (
    FinishedRows,
    Outputs,
    StreamSettings,
    WindowBatch,
    stream_rows,
)
from ..streaming.augmentation import average_predictions
from ..streaming.settings import check_sides
from ..tiling import SYMMETRIES, Symmetry, View, parse_views
from ..tiling.arrays import operations_of
from ..tiling.views import LOCAL
from .runtime_session import Session

# Overrides are named as those of a config.
_FIELDS = 'model.test_cfg.'
# Of files that do not tell: the step from window to window, as a share.
_STEP = 2 / 3
_KNOWN = tuple(StreamSettings.__dataclass_fields__)


class OnnxSegmentor:
    """Streams scenes through a file of ``tools/deployment/export.py``.

    It stands where a :class:`~mmseg_uhr.models.segmentors.StreamingSegmentor`
    stands: windows, blending and finished rows are those of
    :func:`~mmseg_uhr.streaming.stream_rows`, on arrays of NumPy. Where the
    file takes one size of windows only, smaller scenes are padded.

    Args:
        path (str | Path): The file.
        device (str): ``'cpu'``, ``'cuda'`` or ``'tensorrt'``, also with the
            number of a GPU, ``'cuda:1'``; the latter two where onnxruntime
            has them. Defaults to ``'cpu'``.
        cfg_options (Mapping, optional): ``model.test_cfg.<field>`` of
            :class:`~mmseg_uhr.streaming.StreamSettings`, by name. Default to
            what the file tells.

    Attributes:
        out_channels (int): Channels of the logits.
        dataset_meta (dict): ``classes`` and ``palette``.
        views (dict[str, View]): What the network sees of a window.
        settings (StreamSettings): How scenes are cut into windows.

    Raises:
        ImportError: If onnxruntime is not installed.
        ValueError: If the file cannot be used, or not with these options.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = 'cpu',
        cfg_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._session = Session(path, device)
        self.path = Path(path)
        known = self._session.known
        self.out_channels = self._session.classes
        self.dataset_meta = dict(
            classes=known.get('classes'), palette=known.get('palette')
        )
        self.views = _views(known['views'])
        shape = self._session.shapes[LOCAL]
        #: Height and width that windows must have; None where any will do.
        self._fixed = self._fixed_size(shape[2:], known['window'])
        self.settings = self._settings(dict(cfg_options or {}))
        self._check_augmentation()

    def settings_for(self, raster: Raster) -> StreamSettings:
        """Return how a scene is cut into windows: all in one way.

        Args:
            raster (Raster): The scene.

        Returns:
            StreamSettings: See :attr:`settings`.
        """
        return self.settings

    def stream(
        self,
        source: Raster | Any,
        outputs: Outputs = Outputs(),
        rows: tuple[int, int] | None = None,
        nodata: int | None = None,
    ) -> Iterator[FinishedRows]:
        """Predict a scene of any size, row band by row band.

        Args:
            source (Raster | str | np.ndarray): See
                :func:`~mmseg_uhr.rasters.as_raster`; three bands blue first.
            outputs (Outputs): What is wanted besides class ids.
            rows (tuple[int], optional): ``(start, stop)``, the rows wanted.
                Defaults to all.
            nodata (int, optional): Class id of pixels without data, which
                are predicted like all others by default.

        Yields:
            FinishedRows: Arrays, from the top to the bottom.
        """
        raster = as_raster(source)
        height, width = raster.shape
        padded = self._padded(raster)
        for found in stream_rows(
            padded,
            self.settings,
            self.views,
            OnnxPredictor(self._session, self.views, self.settings),
            self._session.known.get('threshold'),
            outputs,
            rows or (0, height),
            nodata,
            tensors=False,
            may_shrink=self._fixed is None,
        ):
            yield found if padded is raster else _cropped(found, width)

    def loader(self, bands: tuple[int, ...] | None = None) -> SceneLoader:
        """Return what opens scenes as the network expects them.

        Args:
            bands (tuple[int], optional): In place of what the file tells.

        Returns:
            SceneLoader: As the test pipeline of its config.
        """
        options = dict(self._session.known.get('image') or {})
        options['channels'] = self._session.shapes[LOCAL][1]
        options['bands'] = bands or options.get('bands')
        return SceneLoader(**options)

    def identity(self) -> dict[str, Any]:
        """Tell what logits depend on, to recognise a run later.

        Returns:
            dict[str, Any]: For JSON.
        """
        return dict(checkpoint=file_identity(self.path), backend='onnxruntime')

    @property
    def _multiple(self) -> int:
        """int: Of which height and width have to be."""
        return self._session.known.get('multiple') or 1

    def _fixed_size(
        self, seen: tuple[int | None, int | None], window: list[int]
    ) -> tuple[int, int] | None:
        """Return the one size of windows, in pixels of the scene."""
        batch = self._session.shapes[LOCAL][0]
        if batch not in (None, 1):
            raise ValueError(
                f'{self.path}: takes {batch} windows at a time, neither more '
                'nor fewer; export it again, with --dynamic if batches are '
                'wanted'
            )
        # A view with a size of its own is resized to that.
        if None in seen or self.views[LOCAL].size is not None:
            return None
        return tuple(window)

    def _settings(self, options: dict[str, Any]) -> StreamSettings:
        """Put what is asked for in place of what the file tells."""
        known = self._session.known
        window = tuple(known['window'])
        told = dict(known.get('stream') or {})
        trained = told.pop('crop_size', window)
        stride = told.pop('stride', [round(n * _STEP) for n in trained])
        asked = {}
        for name, value in options.items():
            field = name.removeprefix(_FIELDS)
            if field == name or field not in _KNOWN:
                raise ValueError(
                    f'{name}: an exported network has no config; only '
                    f'{_FIELDS}<field> can be set, of '
                    f'{", ".join(_KNOWN)}'
                )
            asked[field] = value
        crop = asked.get('crop_size', window)
        check_sides('crop_size', crop)
        crop = tuple(crop)
        if self._fixed is not None and crop != self._fixed:
            raise ValueError(
                f'crop_size {crop}: {self.path} takes windows of '
                f'{self._fixed} only; export it again with --dynamic, or '
                'with this --size'
            )
        if any(side % self._multiple for side in crop):
            raise ValueError(
                f'crop_size {crop}: {self.path} takes multiples of '
                f'{self._multiple}'
            )
        # The overlap keeps its share of the window.
        stride = tuple(
            max(round(step * side / full), 1)
            for step, side, full in zip(stride, crop, trained, strict=True)
        )
        if 'tta_scales' in told:
            told['tta_scales'] = tuple(told['tta_scales'])
        fields = {**told, 'stride': stride, **asked, 'crop_size': crop}
        if self._session.shapes[LOCAL][0] == 1:
            if asked.get('batch_size', 1) != 1:
                raise ValueError(
                    f'batch_size {asked["batch_size"]}: {self.path} takes '
                    'one window at a time; export it again with --dynamic'
                )
            fields['batch_size'] = 1
        return StreamSettings(**fields)

    def _check_augmentation(self) -> None:
        """Refuse scales and turns that make views which do not fit."""
        sizes = {name: self._session.shapes[name][2:] for name in self.views}
        scales = set(self.settings.tta_scales) - {1.0}
        if scales and any(None not in size for size in sizes.values()):
            raise ValueError(
                f'tta_scales {self.settings.tta_scales}: {self.path} takes '
                'views of one size only; export it with --dynamic'
            )
        if scales and self._multiple > 1:
            crop = self.settings.crop_size
            if any(
                round(side * scale) % self._multiple
                for side in crop
                for scale in scales
            ):
                raise ValueError(
                    f'tta_scales {self.settings.tta_scales}: {self.path} '
                    f'takes multiples of {self._multiple}, and scaled windows '
                    f'of {crop[0]} x {crop[1]} are none'
                )
            # Of smaller ones the scaled ones might be none.
            self._fixed = crop
        turns = {s.turns % 2 for s in SYMMETRIES[self.settings.tta]}
        if 1 in turns and any(h != w for h, w in sizes.values()):
            raise ValueError(
                f'tta {self.settings.tta!r}: {self.path} takes views that '
                'are not square, which cannot be turned'
            )

    def _padded(self, raster: Raster) -> Raster:
        """Enlarge a scene that is smaller than the network takes."""
        if self._fixed is not None:
            least = self._fixed
        else:
            least = [
                -(-min(side, crop) // self._multiple) * self._multiple
                for side, crop in zip(raster.shape, self.settings.crop_size)
            ]
        shape = tuple(map(max, raster.shape, least))
        if shape == tuple(raster.shape):
            return raster
        return PaddedRaster(raster, shape, self.views[LOCAL].fill)


class OnnxPredictor:
    """Predicts the windows of one scene.

    Args:
        session (Session): The network.
        views (Mapping[str, View]): What it sees of a window.
        settings (StreamSettings): With ``tta`` and ``tta_scales``.
    """

    def __init__(
        self,
        session: Session,
        views: Mapping[str, View],
        settings: StreamSettings,
    ) -> None:
        self._session, self._views = session, views
        self._settings = settings

    def __call__(self, batch: WindowBatch) -> np.ndarray:
        """Predict a batch.

        Args:
            batch (WindowBatch): Of n windows of size (h, w).

        Returns:
            np.ndarray: Logits (n, C, h, w).
        """
        views = {
            name: np.stack([one[name] for one in batch.inputs])
            for name in self._views
        }

        def predict(
            turned: dict[str, np.ndarray], scale: float, symmetry: Symmetry
        ) -> np.ndarray:
            boxes = {
                f'box_{name}': symmetry.apply_to_boxes(
                    np.array([one[name] for one in batch.boxes], np.float32)
                )
                for name in self._views
            }
            return self._session.run({**turned, **boxes})

        logits = average_predictions(views, self._settings, predict)
        size = tuple(batch.windows[0][2:])
        if logits.shape[2:] == size:
            return logits
        # Where the local view is not the window as it is.
        return operations_of(logits).resized(logits, size)


def _views(known: Mapping[str, dict]) -> dict[str, View]:
    """Read the views that a file tells of; tuples are lists in it."""
    return parse_views(
        {
            name: {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in view.items()
            }
            for name, view in known.items()
        }
    )


def _cropped(found: FinishedRows, width: int) -> FinishedRows:
    """Leave out the columns that a scene does not have."""
    return FinishedRows(
        found.y,
        *(None if one is None else one[..., :width] for one in found[1:]),
    )
