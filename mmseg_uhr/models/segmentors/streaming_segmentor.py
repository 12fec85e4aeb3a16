"""What makes a segmentor of MMSegmentation stream."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union

import torch
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from ...rasters import Raster, TensorRaster, as_raster
from ...streaming import FinishedRows, Outputs, StreamSettings, stream_rows
from ...tiling import parse_views
from ...tiling.views import LOCAL
from ..backbones.local_context import BOXES
from ..layers.checkpointing import checkpoint_modules
from ..losses.striped import stripe_losses
from .batch_norms import scale_weights_on_the_fly
from .budget import StreamBudget, check_budget
from .execution import Execution
from .whole_image import stripe_prediction
from .window_predictor import WindowPredictor

MODES = ('whole', 'slide', 'stream')


class StreamingSegmentor:
    """Adds streaming to a stock segmentor; comes before it in the bases.

    The stock class needs ``decode_head``, ``align_corners``, ``test_cfg`` and
    ``encode_decode(inputs, batch_img_metas)``, as
    :class:`mmseg.models.EncoderDecoder` has them. State-dict keys are those
    of the stock class.

    With ``test_cfg=dict(mode='stream', crop_size=(h, w), stride=(h, w),
    batch_size=1, blend='uniform')``, whose fields are those of
    :class:`~mmseg_uhr.streaming.StreamSettings`, windows are read lazily,
    preprocessed on the device, predicted in batches and blended in a band of
    rows; only a label map of one byte per pixel is kept. With
    ``blend='uniform'`` that map is stock slide mode's. ``mode='whole'`` and
    ``'slide'`` do what they do in stock. With ``budget``, ``'8GiB'``
    or 0.5 of the device, batches, then the sums of logits, then windows are
    fitted to each scene.

    With ``mode='whole', stripe_rows=512`` the encoders for two resolutions
    predict images whole in stripes of rows, see
    :func:`~mmseg_uhr.models.segmentors.whole_image.stripe_prediction`.

    Training takes less memory with ``train_cfg=dict(loss_rows=128,
    checkpoint=[...])``, see
    :func:`~mmseg_uhr.models.losses.striped.stripe_losses` and
    :func:`~mmseg_uhr.models.layers.checkpointing.checkpoint_modules`.

    A backbone with ``encode_context(name, x)`` gets views of the whole scene
    encoded by that, once per scene, and under ``'view_boxes'`` where the
    windows lie in each view, see
    :class:`~mmseg_uhr.models.backbones.LocalContextEncoder`.

    Batch norms behind the convolutions of mmcv's ``ConvModule`` are folded
    into the weights while predicting; results differ from stock by rounding.

    Args:
        *args: As stock.
        views (dict[str, dict], optional): What the network sees of a window
            besides its pixels, see :class:`~mmseg_uhr.tiling.View`; use the
            same in the pipeline's ``ReadViews``. A network with views gets
            ``dict[str, Tensor]`` instead of a tensor.
        **kwargs: As stock.

    Attributes:
        execution (Execution): Precision, memory order and compiler of the
            windows' forward pass; set by
            :func:`~mmseg_uhr.apis.init_segmentor`.

    Raises:
        ValueError: If ``test_cfg``, ``train_cfg`` or ``views`` make no sense.
    """

    def __init__(
        self, *args: Any, views: dict | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        scale_weights_on_the_fly(self)
        self.execution = Execution(self)
        self.views = parse_views(views)
        self._budget = StreamBudget(self)
        mode = (self.test_cfg or {}).get('mode', 'whole')
        if mode not in MODES:
            raise ValueError(
                f'test_cfg.mode={mode!r}: expected one of {MODES}'
            )
        if mode == 'stream':
            StreamSettings.from_test_cfg(self.test_cfg)
        if (self.test_cfg or {}).get('budget') is not None:
            check_budget(self.test_cfg['budget'])
        train_cfg = getattr(self, 'train_cfg', None) or {}
        if 'loss_rows' in train_cfg:
            stripe_losses(self, train_cfg['loss_rows'])
        if 'checkpoint' in train_cfg:
            checkpoint_modules(self, train_cfg['checkpoint'])
        if (self.test_cfg or {}).get('stripe_rows') is not None:
            if mode != 'whole':
                raise ValueError(
                    f"test_cfg.stripe_rows needs mode='whole', not {mode!r}; "
                    'streams have windows instead'
                )
            stripe_prediction(self, self.test_cfg['stripe_rows'])

    @property
    def streams(self) -> bool:
        """bool: Whether ``test_cfg.mode`` is ``'stream'``."""
        return (self.test_cfg or {}).get('mode') == 'stream'

    def loss(self, inputs: Any, data_samples: list[SegDataSample]) -> dict:
        """Compute the losses of a batch.

        Args:
            inputs (Tensor | dict[str, Tensor]): Preprocessed images
                (N, C, H, W).
            data_samples (list[SegDataSample]): With labels of any integer
                type; they travel as ``uint8`` and become ``int64`` here, on
                the device.

        Returns:
            dict[str, Tensor]: Losses by name.
        """
        for sample in data_samples:
            sample.gt_sem_seg.data = sample.gt_sem_seg.data.long()
        inputs = self.with_boxes(
            inputs, [sample.metainfo for sample in data_samples]
        )
        return super().loss(inputs, data_samples)

    @property
    def encodes_contexts(self) -> bool:
        """bool: Whether the backbone takes encoded contexts, and boxes."""
        return hasattr(getattr(self, 'backbone', None), 'encode_context')

    def with_boxes(self, inputs: Any, metas: Sequence[Mapping]) -> Any:
        """Tell the backbone where the windows lie in their contexts.

        Args:
            inputs (Tensor | dict[str, Any]): What the network gets.
            metas (Sequence[Mapping]): Metainfo of the windows.

        Returns:
            Tensor | dict[str, Any]: With ``'view_boxes'``, ``(y, x, h, w)``
            (N, 4) by view, if there are several views and the backbone takes
            them.
        """
        if (
            not (isinstance(inputs, dict) and self.encodes_contexts)
            or BOXES in inputs
        ):
            return inputs
        local = inputs[LOCAL]
        boxes = {
            name: torch.tensor(
                [meta[BOXES][name] for meta in metas], dtype=local.dtype
            ).to(local.device, non_blocking=True)
            for name in inputs
            if all(name in meta.get(BOXES, ()) for meta in metas)
        }
        return {**inputs, BOXES: boxes}

    def val_step(self, data: dict) -> list[SegDataSample]:
        """Predict a batch from a dataloader, see :meth:`test_step`."""
        return self.test_step(data)

    def test_step(self, data: dict) -> list[SegDataSample]:
        """Predict a batch from a dataloader.

        Args:
            data (dict): ``inputs``, a list of rasters or of raw images
                (C, H, W), and optionally ``data_samples``.

        Returns:
            list[SegDataSample]: With ``pred_sem_seg``, a label map (1, H, W);
            in stream mode ``uint8`` on the CPU and without ``seg_logits``.
        """
        if self.streams:
            rasters = [as_raster(source) for source in data['inputs']]
            return self._predict_rasters(
                rasters, data.get('data_samples'), preprocess=True
            )
        images = [
            source.read_tensor() if isinstance(source, Raster) else source
            for source in data['inputs']
        ]
        return super().test_step({**data, 'inputs': images})

    def predict(
        self,
        inputs: Tensor,
        data_samples: list[SegDataSample] | None = None,
    ) -> list[SegDataSample]:
        """Predict images that have been preprocessed.

        Args:
            inputs (Tensor): Shape (N, C, H, W).
            data_samples (list[SegDataSample], optional): Their metainfo.

        Returns:
            list[SegDataSample]: As :meth:`test_step`.
        """
        if not self.streams:
            return super().predict(inputs, data_samples)
        rasters = [TensorRaster(image) for image in inputs]
        return self._predict_rasters(rasters, data_samples, preprocess=False)

    def settings_for(self, raster: Raster) -> StreamSettings:
        """Return how a scene is predicted.

        Args:
            raster (Raster): The scene.

        Returns:
            StreamSettings: Those of ``test_cfg``, fitted to its ``budget``.

        Raises:
            ValueError: If the budget exceeds the device, or nothing fits.
        """
        settings = StreamSettings.from_test_cfg(self.test_cfg)
        budget = self.test_cfg.get('budget')
        if budget is None:
            return settings
        return self._budget.fit(raster, settings, budget)

    def stream(
        self,
        source: Union[Raster, Any],
        preprocess: bool = True,
        outputs: Outputs = Outputs(),
        rows: tuple[int, int] | None = None,
        nodata: int | None = None,
    ) -> Iterator[FinishedRows]:
        """Predict a scene of any size, row band by row band.

        Args:
            source (Raster | str | np.ndarray | Tensor): See
                :func:`~mmseg_uhr.rasters.as_raster`; bands in the order that
                the data preprocessor expects.
            preprocess (bool): Whether to run the data preprocessor on each
                batch of windows. Defaults to True.
            outputs (Outputs): What is wanted besides class ids.
            rows (tuple[int], optional): ``(start, stop)``, the rows wanted.
                Defaults to all.
            nodata (int, optional): Class id of pixels without data, which
                are predicted like all others by default.

        Yields:
            FinishedRows: On the CPU, from the top to the bottom.
        """
        raster = as_raster(source)
        settings = self.settings_for(raster)
        yield from stream_rows(
            raster,
            settings,
            self.views,
            WindowPredictor(self, settings, preprocess),
            getattr(self.decode_head, 'threshold', None),
            outputs,
            rows,
            nodata,
        )

    def _predict_rasters(
        self,
        rasters: Sequence[Raster],
        data_samples: list[SegDataSample] | None,
        preprocess: bool,
    ) -> list[SegDataSample]:
        """Stream rasters into label maps on the host."""
        if data_samples is None:
            data_samples = [SegDataSample() for _ in rasters]
        for raster, sample in zip(rasters, data_samples, strict=True):
            label_map = None
            for found in self.stream(raster, preprocess):
                if label_map is None:
                    label_map = found.labels.new_empty(raster.shape)
                label_map[found.y : found.y + len(found.labels)] = found.labels
            label_map = _undo_augmentation(label_map, sample.metainfo)
            sample.pred_sem_seg = PixelData(data=label_map[None])
        return list(data_samples)


def _undo_augmentation(label_map: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Bring the label map of a stock pipeline's image to its file's shape.

    Stock resizes and flips logits; here only labels are left, so resizing is
    nearest. Lazy rasters are never resized: give the ``local`` view a
    ``scale`` instead.
    """
    directions = {'horizontal': (1,), 'vertical': (0,)}
    if meta.get('flip'):
        label_map = label_map.flip(directions[meta['flip_direction']])
    shape = tuple(meta.get('ori_shape', label_map.shape))[:2]
    if label_map.shape == shape:
        return label_map
    print_log(
        f'The pipeline resized an image of {shape} to '
        f'{tuple(label_map.shape)} before streaming: its label map is resized '
        'back by nearest neighbour. Drop the Resize and give the model '
        'views=dict(local=dict(scale=...)) to resize logits instead.',
        logger='current',
        level=30,
    )
    resized = torch.nn.functional.interpolate(
        label_map[None, None].float(), size=shape, mode='nearest-exact'
    )
    return resized[0, 0].to(label_map.dtype)
