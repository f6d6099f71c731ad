"""Singular values of the input–output Jacobian, as the network is."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from depthscale.errors import DepthscaleError


def jacobian_values(module: nn.Module, x: Tensor, rows: int = 256) -> NDArray[np.float64]:
    """Singular values of ∂output/∂input at one example x (without its batch axis), largest first.

    Raises DepthscaleError for more than ``rows`` outputs: the Jacobian is made row by row. The module is in evaluation
    mode while it is looked at.
    """
    was = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        at = x.detach().clone()[None].requires_grad_()
        out = module(at).reshape(-1)
        if len(out) > rows:
            raise DepthscaleError(f"expected a model of at most {rows} outputs, got {len(out)}; raise rows")
        made = [torch.autograd.grad(value, at, retain_graph=True)[0].reshape(-1) for value in out]
        return np.asarray(torch.linalg.svdvals(torch.stack(made).double()).numpy())
    finally:
        for m, training in was:
            m.training = training
