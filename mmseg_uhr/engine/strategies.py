"""Strategies of MMEngine's FlexibleRunner."""

from typing import Any

from mmengine._strategy import FSDPStrategy as MMEngineFSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel

from ..registry import STRATEGIES


@STRATEGIES.register_module()
class FSDPStrategy(MMEngineFSDPStrategy):
    """MMEngine's FSDP, which can be resumed.

    MMEngine hands PyTorch the state of the optimizer in an order of arguments
    that ended with PyTorch 2.0.

    Args:
        **kwargs: Those of MMEngine's ``FSDPStrategy``.
    """

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each process its shard of the optimizer's state.

        Args:
            state_dict (dict): As it was saved, of all parameters.
        """
        optimizer = self.optim_wrapper.optimizer
        self.optim_wrapper.load_state_dict(
            FullyShardedDataParallel.optim_state_dict_to_load(
                model=self.model,
                optim=optimizer,
                optim_state_dict=state_dict,
            )
        )
