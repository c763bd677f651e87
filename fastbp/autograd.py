"""A network as a module of PyTorch, differentiated by the compiled core; `fastbp.torch.function` makes it.

Only this file imports PyTorch with itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from fastbp.core.samples import address_of_array
from fastbp.derivatives import pull_back
from fastbp.network import Network


class _Outputs(torch.autograd.Function):  # type: ignore[misc]
    """a[L] of samples x (n, n_in); the backward pass computes them again, so that nothing but x is kept."""

    @staticmethod
    def forward(ctx: Any, x: Any, theta: Any, network: Network) -> Any:
        ctx.network = network
        ctx.save_for_backward(x, theta)  # theta, so that PyTorch refuses a backward pass after it has changed
        return torch.from_numpy(network.forward(x.detach().numpy()))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, slopes: Any) -> tuple[Any, Any, None]:
        x, _ = ctx.saved_tensors
        # Contiguous, as those of a sum are not: few samples then take the short way.
        found = pull_back(ctx.network, x.detach().numpy(), slopes.contiguous().numpy(), *ctx.needs_input_grad[:2])
        to_x, to_theta = (None if each is None else torch.from_numpy(each) for each in found)
        return to_x, to_theta, None


class Differentiable(torch.nn.Module):  # type: ignore[misc]
    """See fastbp.torch.function."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        self.theta = torch.nn.Parameter(torch.from_numpy(network.theta))

    def forward(self, x: Any) -> Any:
        if self.theta.data_ptr() != address_of_array(self.network.theta):
            raise RuntimeError("theta no longer shares its memory with the network, as after .double() or .to(device); "
                               "make another one by fastbp.torch.function(network)")
        if x.is_floating_point():
            x = x.to(self.theta.dtype)
        rows = x.reshape(-1, x.shape[-1]) if x.ndim else x
        return _Outputs.apply(rows, self.theta, self.network).reshape(*x.shape[:-1], self.network.layer_sizes[-1])

    def extra_repr(self) -> str:
        return repr(self.network)

    def __reduce__(self) -> Any:
        """Copies and pickles: theta of another module shares the memory of another network."""
        return _again, (self.network, self.theta.requires_grad, self.training)


def _again(network: Network, requires_grad: bool, training: bool) -> Differentiable:
    made = Differentiable(network)
    made.train(training)
    made.theta.requires_grad_(requires_grad)
    return made
