"""Decode head of SGHRQ: class memory and spatial-guided query."""

from collections.abc import Sequence

import torch.nn as nn
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.utils import SampleList
from torch import Tensor

from ...registry import MODELS
from ..layers.class_memory import ClassMemory
from ..layers.coordinate_query import CoordinateQuery, Pointwise


@MODELS.register_module()
class SGHRQHead(BaseDecodeHead):
    """Query deep features and class scores at the cells of the finest map.

    "Memory-Constrained Semantic Segmentation for Ultra-High Resolution UAV
    Imagery" (RA-L 2024). Two class heads turn the shallow maps into scores:
    ``a8`` of F8 and ``a16`` of F16. A memory of class prototypes, which
    training fills with deep features, gates the coarse ones: ``a16m = a16 *
    (1 + g)``. At every cell of F8's grid an MLP gets the scores a8, the
    nearest a16m, the nearest compressed deep feature and where in their cells
    the cell lies; its last layer is ``conv_seg``.

    In training, the memory takes the batch in before it is read; in eval mode
    it does not change.

    Args:
        in_channels (Sequence[int]): Channels of F8 and F16 (shallow, 1/8 and
            1/16), of the deep features that the memory stores, and of those
            that are queried.
        channels (int): Width of the last layer of the query.
        class_channels (int): Width of the class heads.
        compress_channels (int): Channels of the queried deep features.
        query_channels (Sequence[int]): Widths of the MLP's other hidden
            layers.
        num_frequencies (int): Sines per axis of a position code.
        max_frequency (float): The highest initial frequency, radians per half
            cell of the source map.
        momentum (float): Weight of a batch in the memory.
        sync (str): How processes share the memory, ``'mean'``, ``'seen'`` or
            ``'batch'``, see :class:`~mmseg_uhr.models.layers.ClassMemory`.
        aux_loss_weights (Sequence[float]): Weights of the losses of a8, a16
            and a16m, on top of those of ``loss_decode``.
        in_index (Sequence[int]): The four maps among the inputs.
        dropout_ratio (float): Before the last layer.
        init_cfg (dict, optional): By default all layers start as PyTorch
            starts them, unlike in other heads ``conv_seg`` too.
        **kwargs: Arguments of stock ``BaseDecodeHead``.

    Raises:
        ValueError: If ``out_channels`` is not ``num_classes``.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 512, 640),
        channels: int = 256,
        *,
        class_channels: int = 64,
        compress_channels: int = 256,
        query_channels: Sequence[int] = (512, 256),
        num_frequencies: int = 6,
        max_frequency: float = 64.0,
        momentum: float = 0.1,
        sync: str = 'mean',
        aux_loss_weights: Sequence[float] = (1.0, 1.0, 1.0),
        in_index: Sequence[int] = (0, 1, 3, 4),
        dropout_ratio: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ):
        super().__init__(
            in_channels,
            channels,
            in_index=in_index,
            input_transform='multiple_select',
            dropout_ratio=dropout_ratio,
            init_cfg=init_cfg,
            **kwargs,
        )
        if self.out_channels != self.num_classes:
            raise ValueError(
                f'SGHRQHead out_channels={self.out_channels}: the memory '
                'needs one score per class; leave out_channels out, it is '
                f'then num_classes={self.num_classes}'
            )
        self.aux_loss_weights = tuple(aux_loss_weights)
        fine, coarse, stored, queried = in_channels
        self.class_head_8 = self._class_head(fine, class_channels)
        self.class_head_16 = self._class_head(coarse, class_channels)
        layer = dict(norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        self.memory = ClassMemory(
            self.num_classes, coarse, stored, momentum, sync, **layer
        )
        self.compress = Pointwise(queried, compress_channels, **layer)
        self.query = CoordinateQuery(
            (self.num_classes, self.num_classes, compress_channels),
            (*query_channels, channels),
            num_frequencies,
            max_frequency,
            **layer,
        )

    def _class_head(self, in_channels: int, channels: int) -> nn.Sequential:
        """Build a class head on a shallow map."""
        conv = ConvModule(
            in_channels,
            channels,
            3,
            padding=1,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )
        return nn.Sequential(conv, nn.Conv2d(channels, self.out_channels, 1))

    def scores(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the class scores of all grids.

        Args:
            inputs (Sequence[Tensor]): Outputs of the neck.

        Returns:
            tuple[Tensor, ...]: Logits (N, num_classes, h, w): of the query
            and a8 at 1/8, a16 and a16m at 1/16.
        """
        fine, coarse, _, queried = self._transform_inputs(inputs)
        a8 = self.class_head_8(fine)
        a16 = self.class_head_16(coarse)
        a16m = a16 + a16 * self.memory(coarse)
        z = self.compress(queried)
        return self.query((a8, a16m, z), self.cls_seg), a8, a16, a16m

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode.

        Args:
            inputs (Sequence[Tensor]): Outputs of the neck.

        Returns:
            Tensor: Logits (N, num_classes, H / 8, W / 8).
        """
        return self.scores(inputs)[0]

    def loss(
        self,
        inputs: Sequence[Tensor],
        batch_data_samples: SampleList,
        train_cfg: dict,
    ) -> dict[str, Tensor]:
        """Update the memory and compute the losses of all scores.

        Args:
            inputs (Sequence[Tensor]): Outputs of the neck.
            batch_data_samples (list[SegDataSample]): Labels (1, H, W).
            train_cfg (dict): Not used.

        Returns:
            dict[str, Tensor]: ``loss_ce`` and ``acc_seg`` of the query,
            ``loss_ce_8``, ``loss_ce_16`` and ``loss_ce_16m`` of a8, a16 and
            a16m; with other names if ``loss_decode`` has others.
        """
        labels = self._stack_batch_gt(batch_data_samples)
        if self.training:
            self.memory.update(self._transform_inputs(inputs)[2], labels)
        query, *others = self.scores(inputs)
        losses = self.loss_by_feat(query, batch_data_samples)
        for suffix, logits, weight in zip(
            ('8', '16', '16m'), others, self.aux_loss_weights
        ):
            for name, value in self.losses_of_logits(logits, labels).items():
                losses[f'{name}_{suffix}'] = weight * value
        return losses

    def losses_of_logits(
        self, logits: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Compute what ``loss_by_feat`` does but the accuracy.

        Accuracies of full-size maps take as long as the losses, and one is
        enough.

        Args:
            logits (Tensor): (N, out_channels, h, w).
            labels (Tensor): Class ids (N, 1, H, W).

        Returns:
            dict[str, Tensor]: Losses by name.
        """
        logits = resize(
            logits,
            size=labels.shape[2:],
            mode='bilinear',
            align_corners=self.align_corners,
        )
        weight = None
        if self.sampler is not None:
            weight = self.sampler.sample(logits, labels)
        several = isinstance(self.loss_decode, nn.ModuleList)
        losses: dict[str, Tensor] = {}
        for loss in self.loss_decode if several else [self.loss_decode]:
            value = loss(
                logits,
                labels.squeeze(1),
                weight=weight,
                ignore_index=self.ignore_index,
            )
            name = loss.loss_name
            losses[name] = losses[name] + value if name in losses else value
        return losses
