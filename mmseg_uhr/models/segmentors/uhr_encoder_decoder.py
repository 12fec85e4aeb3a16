"""Encoder-decoder whose prediction memory does not grow with the image."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union

import torch
from mmcv.cnn import ConvModule
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor

from ...rasters import Raster, TensorRaster, as_raster
from ...registry import MODELS
from ...streaming import StreamSettings, WindowBatch, stream_labels
from ...tiling import SYMMETRIES, Symmetry, parse_views
from ...tiling.views import LOCAL

MODES = ('whole', 'slide', 'stream')


@MODELS.register_module()
class UHREncoderDecoder(EncoderDecoder):
    """Stock ``EncoderDecoder`` that can also stream.

    Takes the arguments of :class:`mmseg.models.EncoderDecoder` and has its
    state-dict keys, so any stock config and checkpoint works after a change
    of the ``type``. With ``test_cfg=dict(mode='stream', crop_size=(h, w),
    stride=(h, w), batch_size=1, blend='uniform')`` windows are read lazily,
    preprocessed on the device, predicted in batches and blended in a band of
    rows; only a label map of one byte per pixel is kept. With
    ``blend='uniform'`` that map is stock slide mode's. ``mode='whole'`` and
    ``'slide'`` do what they do in stock.

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

    Raises:
        ValueError: If ``test_cfg`` or ``views`` make no sense.
    """

    def __init__(
        self, *args: Any, views: dict | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        # While predicting, mmcv then scales the weights instead of the maps.
        for module in self.modules():
            if isinstance(module, ConvModule):
                module.turn_on_efficient_conv_bn_eval()
        self.views = parse_views(views)
        mode = (self.test_cfg or {}).get('mode', 'whole')
        if mode not in MODES:
            raise ValueError(
                f'test_cfg.mode={mode!r}: expected one of {MODES}'
            )
        if mode == 'stream':
            StreamSettings.from_test_cfg(self.test_cfg)

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
        inputs = self._with_boxes(
            inputs, [sample.metainfo for sample in data_samples]
        )
        return super().loss(inputs, data_samples)

    def encode_decode(
        self, inputs: Tensor, batch_img_metas: list[dict]
    ) -> Tensor:
        """Predict the logits of windows.

        Args:
            inputs (Tensor): Preprocessed windows (N, C, H, W).
            batch_img_metas (list[dict]): Their metainfo, ``img_shape``.

        Returns:
            Tensor: Logits (N, classes, H, W).
        """
        inputs = self._with_boxes(inputs, batch_img_metas)
        head = self.decode_head
        if type(head).predict is not BaseDecodeHead.predict:
            return super().encode_decode(inputs, batch_img_metas)
        # What stock does, without its features while logits are enlarged.
        logits = head(self.extract_feat(inputs))
        return head.predict_by_feat(logits, batch_img_metas)

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

    def stream(
        self, source: Union[Raster, Any], preprocess: bool = True
    ) -> Iterator[tuple[int, Tensor]]:
        """Predict a scene of any size, row band by row band.

        Args:
            source (Raster | str | np.ndarray | Tensor): See
                :func:`~mmseg_uhr.rasters.as_raster`; bands in the order that
                the data preprocessor expects.
            preprocess (bool): Whether to run the data preprocessor on each
                batch of windows. Defaults to True.

        Yields:
            tuple[int, Tensor]: First row, and finished rows (h, W) of class
            ids on the CPU.
        """
        settings = StreamSettings.from_test_cfg(self.test_cfg)
        # Of this scene: what is encoded once for all of its windows.
        encoded: dict[tuple[str, Symmetry], Any] = {}
        yield from stream_labels(
            as_raster(source),
            settings,
            self.views,
            lambda batch: self._predict_windows(
                batch, preprocess, SYMMETRIES[settings.tta], encoded
            ),
            getattr(self.decode_head, 'threshold', None),
        )

    def _predict_windows(
        self,
        batch: WindowBatch,
        preprocess: bool,
        symmetries: Sequence[Symmetry],
        encoded: dict[tuple[str, Symmetry], Any],
    ) -> Tensor:
        """Return the logits (n, C, h, w) of n windows of size (h, w)."""
        single = len(self.views) == 1
        inputs: Any = [
            views['local'] if single else views for views in batch.inputs
        ]
        seen = batch.inputs[0]['local'].shape[1:]
        if preprocess:
            samples = [SegDataSample() for _ in inputs]
            inputs = self.data_preprocessor(
                dict(inputs=inputs, data_samples=samples), False
            )['inputs']
        elif single:
            inputs = torch.stack(inputs)
        else:
            inputs = {
                name: torch.stack([views[name] for views in inputs])
                for name in self.views
            }
        # The preprocessor may have padded the windows, which stays a matter
        # of this method.
        logits = None
        for symmetry in symmetries:
            metas, views = self._as_seen(batch, inputs, symmetry, encoded)
            found = symmetry.undo(self.encode_decode(views, metas))
            logits = found if logits is None else logits.add_(found)
        if len(symmetries) > 1:
            logits /= len(symmetries)
        logits = logits[..., : seen[0], : seen[1]]
        size = batch.windows[0][2:]
        if tuple(seen) == size:
            return logits
        return resize(
            logits,
            size=size,
            mode='bilinear',
            align_corners=self.align_corners,
            warning=False,
        )

    def _as_seen(
        self,
        batch: WindowBatch,
        inputs: Tensor | dict[str, Tensor],
        symmetry: Symmetry,
        encoded: dict[tuple[str, Symmetry], Any],
    ) -> tuple[list[dict], Any]:
        """Turn preprocessed views, and take scenes that are encoded.

        Returns:
            tuple[list[dict], Any]: Metainfo of the windows, and what the
            network gets.
        """
        single = isinstance(inputs, Tensor)
        views = {LOCAL: inputs} if single else inputs
        turned = {}
        for name, pixels in views.items():
            scene = self.views[name].whole_scene and self._encodes_contexts
            if not scene:
                turned[name] = symmetry.apply(pixels)
                continue
            if (name, symmetry) not in encoded:
                encoded[name, symmetry] = self.backbone.encode_context(
                    name, symmetry.apply(pixels[:1])
                )
            turned[name] = encoded[name, symmetry]
        boxes = {
            name: symmetry.apply_to_boxes(
                torch.tensor([one[name] for one in batch.boxes])
            ).tolist()
            for name in views
        }
        # Heads scale their logits to `img_shape`.
        shape = turned[LOCAL].shape[2:]
        metas = [
            dict(
                img_shape=shape,
                pad_shape=shape,
                ori_shape=window[2:],
                window=window,
                view_boxes={name: tuple(boxes[name][i]) for name in views},
            )
            for i, window in enumerate(batch.windows)
        ]
        return metas, turned[LOCAL] if single else turned

    @property
    def _encodes_contexts(self) -> bool:
        """bool: Whether the backbone takes encoded contexts, and boxes."""
        return hasattr(self.backbone, 'encode_context')

    def _with_boxes(self, inputs: Any, metas: Sequence[Mapping]) -> Any:
        """Tell the backbone where the windows lie in their contexts."""
        if not (isinstance(inputs, dict) and self._encodes_contexts):
            return inputs
        boxes = {
            name: inputs[LOCAL].new_tensor(
                [meta['view_boxes'][name] for meta in metas]
            )
            for name in inputs
            if all(name in meta.get('view_boxes', ()) for meta in metas)
        }
        return {**inputs, 'view_boxes': boxes}

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
            for y, rows in self.stream(raster, preprocess):
                if label_map is None:
                    label_map = rows.new_empty(raster.shape)
                label_map[y : y + len(rows)] = rows
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
