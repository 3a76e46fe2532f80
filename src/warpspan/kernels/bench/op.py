"""What the suite must know of one operation: how to call it, check it and put its cost in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch.utils import _pytree as pytree

Dims: TypeAlias = Mapping[str, int]
Arguments: TypeAlias = tuple[Any, ...]
Function: TypeAlias = Callable[..., Any]
Builder: TypeAlias = Callable[[Dims, torch.dtype, torch.Generator], Arguments]

DECODE_ROWS = 64  # up to here a shape counts as a decode step, beyond it as prefill


class Unavailable(Exception):  # noqa: N818 - a reason, told in the row, not an error
    """A provider can't run this operation here; the message says why."""


def missing(why: str) -> Callable[[], Function]:
    """A provider's entry for an operation that it does not have."""

    def raise_unavailable() -> Function:
        raise Unavailable(why)

    return raise_unavailable


def as_given(outputs: Any, _arguments: Arguments) -> Any:
    """Outputs that compare as they are."""
    return outputs


@dataclass(frozen=True)
class Op:
    """One operation of the suite.

    Args:
        name: as on the command line.
        fused: our function.
        reference: the same arguments in plain torch; exact when they are float64.
        cost: the same arguments, gives minimum bytes and FLOPs.
        build: random arguments for dimensions, dtype and generator (whose device is theirs).
        timed: dimensions to time, decode sizes first.
        checked: small and odd dimensions for correctness.
        providers: entries of `native`, `liger` and `flashinfer`; each imports its library when
            called and returns a function of our arguments, or raises `Unavailable`.
        comparable: turns outputs into tensors that may be compared element by element.
        rows: how many rows (tokens) a shape has: it decides decode or prefill.
        eager: what the fused function replaces, where that is not `reference` itself.
        eager_arguments: our arguments made into those of `eager`, outside the timing.
        large: factor of the inputs in the case of large values; small where it goes through an
            exponential of products, in which any rounding shows.
        uses_dot: whether it takes `tl.dot`, which Triton's interpreter can't do in bfloat16.
    """

    name: str
    fused: Function
    reference: Function
    cost: Callable[..., tuple[int, int]]
    build: Builder
    timed: tuple[Dims, ...]
    checked: tuple[Dims, ...]
    providers: Mapping[str, Callable[[], Function]] = field(default_factory=dict)
    comparable: Callable[[Any, Arguments], Any] = as_given
    rows: Callable[[Dims], int] = lambda dims: dims["M"]
    eager: Function | None = None
    eager_arguments: Callable[[Arguments], Arguments] = lambda arguments: arguments
    large: float = 1e4
    uses_dot: bool = False

    def phase(self, dims: Dims) -> str:
        """`decode` for a few rows, `prefill` for many."""
        return "decode" if self.rows(dims) <= DECODE_ROWS else "prefill"


def label(dims: Dims) -> str:
    """Dimensions as `--shape` takes them: `M=1,H=4096`."""
    return ",".join(f"{name}={size}" for name, size in dims.items())


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors in nested arguments or outputs."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def mapped(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """Nested arguments with `change` applied to their floating-point tensors, others cloned."""

    def leaf(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return change(x) if x.is_floating_point() else x.clone()

    return pytree.tree_map(leaf, value)


def normal(
    *shape: int, dtype: torch.dtype, generator: torch.Generator, scale: float = 1.0
) -> torch.Tensor:
    """Random normal values, never zeros: switching activity, and so the clock, depends on data."""
    x = torch.randn(*shape, generator=generator, device=generator.device, dtype=torch.float32)
    return (x * scale).to(dtype)


def widths(*sizes: int, rows: int = 3, name: str = "H") -> Iterator[Dims]:
    """Shapes of `rows` rows, and one without any."""
    for size in sizes:
        yield {"M": rows, name: size}
    yield {"M": 0, name: 64}
