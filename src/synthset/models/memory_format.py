"""The order in memory of a network's weights."""

from typing import Any, TypeVar

import torch

Network = TypeVar("Network", bound=torch.nn.Module)


def use_channels_last(network: Network) -> Network:
    """Stores the weights of convolutions with their channels last, the order in which processors compute them fastest;
    what the network returns follows. Its state dict stays in the usual order, which safetensors requires."""
    network.to(memory_format=torch.channels_last)
    network.register_state_dict_post_hook(_make_contiguous)
    return network


def _make_contiguous(_: torch.nn.Module, state_dict: dict[str, Any], prefix: str, metadata: dict) -> None:
    for name, value in state_dict.items():
        if isinstance(value, torch.Tensor):
            state_dict[name] = value.contiguous()
