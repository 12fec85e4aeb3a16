"""Mixture of experts: a router and small networks, a few for each token."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

# Tokens of one expert that are multiplied at once.
_BLOCK = 128
_STD = 0.02


class RoutedExperts(BaseModule):
    """Send each token to its best experts and add up what they say.

    The region-pixel association experts of HLRC (RA-L 2025): a linear router
    with a soft-max over all experts, of which the ``top_k`` best are kept and
    scaled to sum 1; an expert is a perceptron with two hidden layers and no
    biases. No noise, no limit of tokens per expert.

    The tokens of an expert are gathered in blocks of equal size, so that all
    experts are three batched products, shapes do not depend on the data, and
    every expert has a gradient, an idle one of zeros.

    Args:
        in_channels (int): Channels of a token.
        out_channels (int): Channels of the result.
        num_experts (int): Number of experts E.
        top_k (int): Experts per token.
        small_init (bool): Draw the experts with standard deviation 0.02, as
            published. False keeps the scale of a token through the layers,
            for short trainings from scratch.
        init_cfg (dict, optional): Initialization config.

    Raises:
        ValueError: If there are fewer than two or fewer than ``top_k``
            experts.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_experts: int,
        top_k: int,
        small_init: bool = True,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if not 1 <= top_k <= num_experts or num_experts < 2:
            raise ValueError(
                f'num_experts={num_experts}, top_k={top_k}: expected two or '
                'more experts, of which each token uses 1 to num_experts'
            )
        self.num_experts = num_experts
        self.top_k = top_k
        self.small_init = small_init
        self.router = nn.Linear(in_channels, num_experts, bias=False)
        self.layers = nn.ParameterList(
            nn.Parameter(torch.empty(num_experts, in_channels, width))
            for width in (in_channels, in_channels, out_channels)
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Draw all weights from truncated normal distributions."""
        nn.init.trunc_normal_(self.router.weight, std=_STD)
        for weight in self.layers:
            std = _STD if self.small_init else (2 / weight.shape[1]) ** 0.5
            nn.init.trunc_normal_(weight, std=std)

    def _blocks(self, experts: Tensor) -> tuple[Tensor, Tensor]:
        """Give every choice a row in the blocks of its expert.

        Args:
            experts (Tensor): Chosen experts (A,).

        Returns:
            tuple[Tensor, Tensor]: Row of each choice (A,), and the expert of
            each block.
        """
        counts = experts.new_zeros(self.num_experts)
        counts = counts.scatter_add(0, experts, torch.ones_like(experts))
        blocks = (counts + _BLOCK - 1) // _BLOCK
        ends = blocks.cumsum(0)
        # A choice's place among those of its expert.
        order = experts.argsort(stable=True)
        place = torch.empty_like(order).scatter_(
            0, order, torch.arange(order.shape[0], device=order.device)
        )
        place = place - (counts.cumsum(0) - counts)[experts]
        rows = (ends - blocks)[experts] * _BLOCK + place
        # As many blocks as there may ever be: one per expert is not full. Not
        # `len()`, which would fix the number of tokens in an export.
        number = experts.shape[0] // _BLOCK + self.num_experts
        owner = torch.searchsorted(
            ends, torch.arange(number, device=ends.device), right=True
        )
        return rows, owner.clamp_(max=self.num_experts - 1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the experts.

        Args:
            tokens (Tensor): (T, in_channels).

        Returns:
            tuple[Tensor, Tensor]: Results (T, out_channels), and the
            probabilities of all experts (T, E) in float32.
        """
        # A soft-max in half precision would tie experts.
        probabilities = self.router(tokens).softmax(1, dtype=torch.float32)
        weights, experts = probabilities.topk(self.top_k, dim=1)
        weights = weights / weights.sum(dim=1, keepdim=True)
        rows, owner = self._blocks(experts.flatten())
        token = torch.arange(rows.numel(), device=rows.device) // self.top_k
        # Rows that no choice fills repeat the first token; nobody reads them.
        source = token.new_zeros(owner.shape[0] * _BLOCK)
        source = source.scatter_(0, rows, token)
        x = tokens[source].unflatten(0, (-1, _BLOCK))
        last = len(self.layers) - 1
        for i, weight in enumerate(self.layers):
            x = torch.bmm(x, weight[owner])
            if i < last:
                x = F.relu(x, inplace=True)
        x = x.flatten(0, 1)[rows].unflatten(0, (-1, self.top_k))
        return (x * weights[..., None].to(x.dtype)).sum(dim=1), probabilities
