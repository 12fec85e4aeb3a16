"""Training head of the shallow map: segmentation and contrast."""

from collections.abc import Sequence

import torch.nn as nn
from mmseg.models.decode_heads.fcn_head import FCNHead
from mmseg.utils import SampleList
from torch import Tensor

from ...registry import MODELS
from ..losses.shallow_deep_contrast import majority_labels


@MODELS.register_module()
class ShallowDeepContrastHead(FCNHead):
    """FCN head on a shallow map that also contrasts it with a deep map.

    Its predictions decide which shallow cells are hard, i.e. preferred
    anchors of the contrast. Used as an auxiliary head; nothing of it runs at
    test time.

    Args:
        loss_contrast (dict): Config of the contrastive loss, e.g.
            ``dict(type='mmseg_uhr.ShallowDeepContrastLoss')``.
        deep_index (int): Index of the deep map among the inputs. ``in_index``
            is that of the shallow map.
        embed_channels (int): Channels of the deep map, onto which the shallow
            map is projected.
        exclude_classes (Sequence[int]): Classes without a meaning of their
            own, such as DeepGlobe's 'unknown'; left out of the contrast.
        **kwargs: Arguments of stock ``FCNHead``.
    """

    def __init__(
        self,
        *,
        loss_contrast: dict,
        deep_index: int = 2,
        embed_channels: int = 128,
        exclude_classes: Sequence[int] = (),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.deep_index = deep_index
        self.exclude_classes = tuple(exclude_classes)
        self.embed = nn.Sequential(
            nn.Conv2d(self.in_channels, embed_channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(embed_channels, embed_channels, 1),
        )
        self.loss_contrast = MODELS.build(loss_contrast)

    def loss(
        self,
        inputs: Sequence[Tensor],
        batch_data_samples: SampleList,
        train_cfg: dict,
    ) -> dict[str, Tensor]:
        """Segmentation losses of the shallow map and the contrast.

        Args:
            inputs (Sequence[Tensor]): Outputs of the neck.
            batch_data_samples (list[SegDataSample]): Labels (1, H, W).
            train_cfg (dict): Not used.

        Returns:
            dict[str, Tensor]: Losses by name and ``acc_seg``.

        Raises:
            ValueError: If the deep map has not ``embed_channels`` channels.
        """
        shallow = self._transform_inputs(inputs)
        deep = inputs[self.deep_index]
        if deep.shape[1] != self.embed[-1].out_channels:
            raise ValueError(
                f'the map at deep_index={self.deep_index} has '
                f'{deep.shape[1]} channels, embed_channels is '
                f'{self.embed[-1].out_channels}; make them equal'
            )
        logits = self.forward(inputs)
        losses = self.loss_by_feat(logits, batch_data_samples)

        label = self._stack_batch_gt(batch_data_samples).squeeze(1)
        cells = [
            majority_labels(
                label, x.shape[2:], self.num_classes, self.exclude_classes
            )
            for x in (shallow, deep)
        ]
        if self.out_channels == 1:
            predicted = (logits.detach().sigmoid() > self.threshold).squeeze(1)
        else:
            predicted = logits.detach().argmax(dim=1)
        losses[self.loss_contrast.loss_name] = self.loss_contrast(
            self.embed(shallow),
            deep,
            *cells,
            hard=predicted != cells[0],
            num_classes=self.num_classes,
        )
        return losses
