"""First convolutions that see more than three channels."""

from typing import Any

import torch
from torch import Tensor, nn


def repeat_pretrained_stem(network: nn.Module, name: str) -> None:
    """Let a network load the first kernel of one with fewer channels.

    Where the pretrained kernel (D, C, h, w) meets an input of ``k * C``
    channels, it is repeated k times, not divided by k. That is how ISDNet,
    SGHRQ and HLRC start networks that also see Laplacian residuals. Only the
    network's own pretraining, through its ``init_cfg``, is repeated; in the
    checkpoint of a whole model, shapes have to fit.

    Args:
        network (nn.Module): The network.
        name (str): Name of the kernel in its state dict.
    """

    def repeat(state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        weight = state_dict.get(name)
        # The prefix of a part of a model is its name.
        if prefix or weight is None:
            return
        wanted = network.get_parameter(name).shape
        times, rest = divmod(wanted[1], weight.shape[1])
        if times > 1 and not rest:
            state_dict[name] = torch.cat([weight] * times, dim=1)

    network._register_load_state_dict_pre_hook(repeat)
