"""Linear layers whose matrix products use a CPU's whole vector width, equal to torch's up to rounding.

torch multiplies float32 matrices with MKL, which uses half of the vector width (AVX2) on AMD processors with AVX-512.
oneDNN, which torch uses for convolutions, uses all of it. On one core of an AMD EPYC the forward products of vit_micro
reach 246 GFLOP/s instead of 108. It saves 29 % of vit_micro's forward and backward pass. torch has this product as an
operator without a derivative, which `torch.compile` calls in inference. The derivative is added here. Where the
operator is missing, and for all other types, devices and ways of recording a program, the layer is torch's own.
`test_a_product_is_torchs_own` holds both equal, with their derivatives.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

LEAST = 1 << 22  # multiply-adds of a product below which the call itself takes longer than it saves


class Linear(nn.Linear):
    """`torch.nn.Linear`, (..., D) -> (..., D'), with a faster product on some CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `torch.nn.functional.linear`: (..., D), (D', D), (D') -> (..., D')."""
    if not _is_fast(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return cast(Tensor, _Product.apply(x, weight, bias))
    return multiply(x, weight, bias)


class _Product(torch.autograd.Function):
    """The operator with its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (out,) = gradients  # (..., D')
        x, weight = ctx.saved_tensors  # (..., D), (D', D)
        times = F.linear if torch.is_grad_enabled() else multiply  # the first has a derivative of its own
        rows, columns = x.flatten(0, -2), out.flatten(0, -2)  # (M, D), (M, D')
        return (
            times(out, weight.t()) if ctx.needs_input_grad[0] else None,  # (..., D)
            times(columns.t(), rows.t()) if ctx.needs_input_grad[1] else None,  # (D', D)
            columns.sum(0) if ctx.needs_input_grad[2] else None,  # (D')
        )


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return oneDNN's product, which has no derivative: (..., D), (D', D), (D') -> (..., D')."""
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))


def _has_operator() -> bool:
    """Return whether this torch has the operator and this processor the wide vectors."""
    is_built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    is_there = is_built and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return is_there and "AVX512" in torch.backends.cpu.get_cpu_capability()


HAS_OPERATOR = _has_operator()
if HAS_OPERATOR:

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _flops(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
        """Count a product as torch's counter counts its own. x, weight: shapes."""
        return 2 * math.prod(x) * weight[0]


def _is_fast(x: Tensor, weight: Tensor) -> bool:
    """Return whether the operator takes these tensors, and is faster for them."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if not HAS_OPERATOR or tracing or torch.compiler.is_compiling():  # a recorded program takes batches of any size
        return False
    if x.ndim < 2 or x.numel() * weight.shape[0] < LEAST:
        return False
    if any(part.device.type != "cpu" or part.dtype != torch.float32 for part in (x, weight)):
        return False
    if type(x) is not Tensor or type(weight) not in (Tensor, nn.Parameter):
        return False  # a wrapper that records what is done
    transformed: bool = torch._C._are_functorch_transforms_active()
    return not transformed and not torch.is_autocast_enabled("cpu") and bool(torch.backends.mkldnn.enabled)
