"""Memory of class prototypes that outlives the batch."""

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from torch import Tensor

from .conventions import BATCH_NORM, RELU
from .coordinate_query import Pointwise

SYNCS = ('mean', 'seen', 'batch')

# Dissimilarities are at least this, so that features that all equal the
# memory have a weighted mean too.
_MIN_DISSIMILARITY = 1e-12


class ClassMemory(BaseModule):
    """One prototype per class: an average over training, read by attention.

    SGHRQ (RA-L 2024), memory branch. :meth:`update` stores deep features by
    their labels. With X the features of a class c in the batch, a class that
    is new gets ``M_c = mean(X)``, any other ``M_c = (1 - m) M_c + m sum_i w_i
    x_i`` with ``w_i`` proportional to ``1 - cos(x_i, M_c)``: what the memory
    does not know yet counts more. Classes that the batch does not contain
    keep their prototype.

    :meth:`forward` compares shallow features with the memory: ``g =
    softmax_c(<S(f), M_c> / sqrt(channels))``. Its cost is linear in the number
    of pixels.

    The memory is a buffer, so it is saved with the weights, moved with the
    module and changed in place. A prototype of zeros is an unknown one.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the maps that read.
        channels (int): Channels of a prototype, i.e. of the maps that are
            stored.
        momentum (float): Weight m of a batch.
        sync (str): What processes that train together do after an update.
            ``'mean'`` averages their memories, as the reference code does: a
            process that has not seen a class counts with what it had, zeros
            at first. ``'seen'`` averages, class by class, over those that
            have it in their batch.
        norm_cfg (dict, optional): Norm config of S.
        act_cfg (dict): Activation config of S.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If ``sync`` is unknown.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 512,
        channels: int = 512,
        momentum: float = 0.1,
        sync: str = 'mean',
        norm_cfg: dict | None = BATCH_NORM,
        act_cfg: dict = RELU,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if sync not in SYNCS:
            raise ValueError(
                f'ClassMemory sync={sync!r}: expected one of {SYNCS}'
            )
        self.num_classes = num_classes
        self.momentum = momentum
        self.sync = sync
        self.register_buffer('memory', torch.zeros(num_classes, channels))
        self.embed = Pointwise(in_channels, channels, norm_cfg, act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Read: how much each pixel resembles each class.

        Args:
            x (Tensor): Shallow features (N, in_channels, H, W).

        Returns:
            Tensor: (N, num_classes, H, W), positive, 1 in sum; of an empty
            memory 1 / num_classes everywhere.
        """
        # A new tensor: backward needs it even if another update comes first.
        keys = self.memory * self.memory.shape[1] ** -0.5
        scores = F.conv2d(self.embed(x), keys[:, :, None, None])
        return scores.softmax(dim=1)

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Store the features of a batch, on all processes at once.

        Every process has to call it, whatever its labels are.

        Args:
            features (Tensor): Deep features (N, channels, h, w).
            labels (Tensor): Class ids (N, 1, H, W); anything that is not in
                [0, num_classes) is left out. Brought to h x w by nearest
                neighbour.
        """
        with torch.autocast(features.device.type, enabled=False):
            # Half precision would lose small steps.
            dtype = torch.promote_types(self.memory.dtype, torch.float32)
            memory = self.memory.to(dtype)
            x, one_hot = self._by_class(features.to(dtype), labels)
            count = one_hot.sum(dim=0)
            known = memory.any(dim=1)
            # Column c: the weight of each vector in the mean of class c.
            cosine = F.normalize(x, dim=1) @ F.normalize(memory, dim=1).t()
            weights = (1 - cosine).clamp(min=_MIN_DISSIMILARITY)
            weights = one_hot * torch.where(known, weights, 1.0)
            total = weights.sum(dim=0)
            if self.sync == 'batch':
                all_reduce(count)
                all_reduce(total)
            weights = weights / total.clamp(min=_MIN_DISSIMILARITY)
            mean = weights.t() @ x
            if self.sync == 'batch':
                all_reduce(mean)
            mean = torch.where(
                known[:, None], torch.lerp(memory, mean, self.momentum), mean
            )
            # Overflow of half precision must not stay for ever.
            seen = (count > 0) & mean.isfinite().all(dim=1)
            memory = torch.where(seen[:, None], mean, memory)
            self.memory.copy_(self._synchronised(memory, seen))

    def _by_class(
        self, features: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return features as rows (P, channels) and one-hot labels (P, C)."""
        labels = F.interpolate(
            labels.float(), size=features.shape[2:], mode='nearest'
        ).long()
        classes = torch.arange(self.num_classes, device=labels.device)
        one_hot = labels.flatten()[:, None] == classes
        x = features.permute(0, 2, 3, 1).flatten(0, 2)
        return x, one_hot.to(x.dtype)

    def _synchronised(self, memory: Tensor, seen: Tensor) -> Tensor:
        """Average the memories (C, channels) of all processes."""
        world_size = get_world_size()
        if world_size == 1 or self.sync == 'batch':
            return memory
        if self.sync == 'mean':
            total = memory / world_size
            all_reduce(total)
            return total
        share = seen[:, None].to(memory.dtype)
        # One message: sums of prototypes, and of how many there are.
        total = torch.cat([memory * share, share], dim=1)
        all_reduce(total)
        mean = total[:, :-1] / total[:, -1:].clamp(min=1)
        return torch.where(total[:, -1:] > 0, mean, memory)
