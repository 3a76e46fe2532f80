"""Correctness before speed: FlashAttention's rule against float64, in every awkward case.

An output passes where `|out - exact| <= 2 * |eager - exact| + epsilon`: `exact` is the reference in
float64, `eager` the reference in the dtype under test. Distances are taken in units of the largest
value of their row, so that a row of small values counts as much as one of large values, and each
row is held to twice eager's worst row (its own would do injustice: in some rows eager is exact by
luck). Epsilon is one unit in the last place; sixteen in float32, where the order of a sum and a GPU's
approximate exp and division decide. Where eager is not finite, the output must be the same NaN or
infinity. Every output is filled with NaN before the kernel runs, so that what it does not write
shows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from warpspan.kernels.bench.op import Arguments, Dims, Function, Op, label, mapped, tensors


class Check(NamedTuple):
    """The outcome of one case.

    Args:
        op: the operation.
        case: its dimensions and what was done to the inputs.
        dtype: under test.
        max_error: largest distance from float64.
        error_ratio: that distance as a multiple of eager's own; None where eager is exact.
        failure: what is wrong, or None.
    """

    op: str
    case: str
    dtype: str
    max_error: float | None
    error_ratio: float | None
    failure: str | None


TINY = torch.finfo(torch.float64).tiny


class Error(NamedTuple):
    """Distance from float64: largest, as a multiple of eager's, and what breaks the rule."""

    largest: float
    ratio: float | None
    failure: str | None


def compare(
    outputs: Any, eager: Any, exact: Any, *, factor: float = 2.0, ulps: float | None = None
) -> Error:
    """Apply the rule to all outputs of one call.

    Args:
        outputs: of the function under test.
        eager: of the reference in the same dtype.
        exact: of the reference in float64.
        factor: how many times eager's distance is allowed.
        ulps: allowed beside that, in units of the last place; None for the rule's own.
    """
    largest, eager_largest = 0.0, 0.0
    triples = list(zip(tensors(outputs), tensors(eager), tensors(exact), strict=True))
    for out, same, truth in triples:
        if out.shape != same.shape or out.dtype != same.dtype:
            got, want = f"{tuple(out.shape)} {out.dtype}", f"{tuple(same.shape)} {same.dtype}"
            return Error(0.0, None, f"gives {got} in place of {want}")
        if not out.numel():
            continue
        allowance = (16.0 if out.dtype == torch.float32 else 1.0) if ulps is None else ulps
        eps = torch.finfo(out.dtype).eps * allowance
        out, same = out.double(), same.double()
        finite = same.isfinite() & truth.isfinite()
        strange = ~finite & ~_alike(out, same, truth)
        if bool(strange.any()):
            at = tuple(int(i) for i in strange.nonzero()[0])
            return Error(0.0, None, f"gives {out[at]} at {at} where eager gives {same[at]}")
        zero = torch.zeros_like(out)
        ours = torch.where(finite, (out - truth).abs(), zero)
        theirs = torch.where(finite, (same - truth).abs(), zero)
        scale = torch.where(finite, truth.abs(), zero).amax(-1).clamp(min=TINY)
        relative = theirs.amax(-1) / scale
        limit = (factor * relative.max() + eps) * scale
        broken = ~(ours.amax(-1) <= limit)  # a NaN breaks it too
        if bool(broken.any()):
            at = tuple(int(i) for i in broken.nonzero()[0])
            distance, allowed = float(ours.amax(-1)[at]), float(limit[at])
            return Error(
                distance, None, f"is {distance:.3g} from float64 in row {at}, allowed {allowed:.3g}"
            )
        largest = max(largest, float(ours.max()))
        eager_largest = max(eager_largest, float(theirs.max()))
    return Error(largest, largest / eager_largest if eager_largest else None, None)


def _alike(out: torch.Tensor, same: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Where values that are not finite agree with eager, or with float64 where eager does not.

    Eager overflows in places where a kernel with float32 inside does not: then the finite result,
    or the infinity that it rounds to, is right as well.
    """
    agrees = (out == same) | (out == truth) | (out.isnan() & (same.isnan() | truth.isnan()))
    better = truth.isfinite() & ~same.isfinite() & ~out.isnan()
    return agrees | better


@contextmanager
def poisoned() -> Iterator[None]:
    """Uninitialised memory is NaN (integers: their maximum), by torch's own switch."""
    before = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            # Matrix products of the decoder block have no deterministic form on some devices, and
            # Triton's interpreter computes by numpy, which warns of the NaN that a case is about.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)


Change = Callable[[torch.Tensor], torch.Tensor]


def _spoiled(value: float) -> Change:
    def change(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        if x.numel():
            x[tuple(size // 2 for size in x.shape)] = value
        return x

    return change


def _strided(x: torch.Tensor) -> torch.Tensor:
    """The same values in every second column of a wider tensor."""
    wide = x.new_full((*x.shape[:-1], 2 * x.shape[-1]), float("nan"))
    wide[..., ::2] = x
    return wide[..., ::2]


def _row_strided(x: torch.Tensor) -> torch.Tensor:
    """The same values in the first columns of a wider tensor."""
    wide = x.new_full((*x.shape[:-1], x.shape[-1] + 3), float("nan"))
    wide[..., : x.shape[-1]] = x
    return wide[..., : x.shape[-1]]


def variants(arguments: Arguments, large: float = 1e4) -> Iterator[tuple[str, Arguments]]:
    """The arguments with values and strides of every kind; the first argument is the input."""
    first, rest = arguments[:1], arguments[1:]
    yield "random", arguments
    if not tensors(first)[0].numel():
        return
    small = 1e-4 if tensors(first)[0].dtype == torch.float16 else 1e-18
    yield "large", (*mapped(lambda x: x * large, first), *rest)
    yield "tiny", (*mapped(lambda x: x * small, first), *rest)
    for name, value in (("nan", float("nan")), ("inf", float("inf")), ("-inf", -float("inf"))):
        yield name, (*mapped(_spoiled(value), first), *rest)
    yield "all -inf", (*mapped(lambda x: torch.full_like(x, -float("inf")), first), *rest)
    yield "columns strided", mapped(_strided, arguments)
    yield "rows strided", mapped(_row_strided, arguments)


def check(
    op: Op,
    function: Function,
    arguments: Arguments,
    case: str,
    *,
    factor: float = 2.0,
    ulps: float | None = None,
) -> Check:
    """Run one case; a failure is told, not raised."""
    dtype = tensors(arguments[0])[0].dtype
    copies = [mapped(torch.clone, arguments) for _ in range(2)]
    double = mapped(torch.Tensor.double, arguments)
    eager = op.comparable(op.reference(*copies[0]), arguments)
    exact = op.comparable(op.reference(*double), double)
    try:
        # The kernel gets the given strides; what it may write to in place is given to it last.
        with poisoned():
            outputs = function(*arguments)
        error = compare(op.comparable(outputs, copies[1]), eager, exact, factor=factor, ulps=ulps)
    except ValueError as fault:
        error = Error(0.0, None, str(fault))
    name = str(dtype).removeprefix("torch.")
    if error.failure:
        return Check(op.name, case, name, None, None, error.failure)
    return Check(op.name, case, name, error.largest, error.ratio, None)


def cases(
    op: Op, dtype: torch.dtype, generator: torch.Generator
) -> Iterator[tuple[str, Arguments]]:
    """Every shape with random values; the widest small one in all variants."""
    for dims in op.checked:
        yield f"{label(dims)} random", op.build(dims, dtype, generator)
    for name, arguments in variants(op.build(_middle(op), dtype, generator), op.large):
        if name != "random":
            yield f"{label(_middle(op))} {name}", arguments


def _middle(op: Op) -> Dims:
    """A shape of several rows, small enough for many variants."""
    return op.checked[1]
