"""The correctness rule: what passes, and that each kind of fault is found."""

import pytest
import torch

from warpspan.kernels.bench.correctness import check, compare, poisoned, variants
from warpspan.kernels.bench.op import Op
from warpspan.kernels.bench.ops import load

NAN, INF = float("nan"), float("inf")


def row(*values, dtype=torch.float32):
    return torch.tensor([values], dtype=dtype)


def test_twice_eagers_distance_passes_and_more_does_not():
    """Eager is off by 0.001: 0.002 passes, 0.0025 does not, and the sentence has both numbers."""
    exact, eager = row(1.0, dtype=torch.float64), row(1.001)
    assert None is compare(row(1.002), eager, exact).failure
    error = compare(row(1.0025), eager, exact)
    assert "is 0.0025 from float64 in row (0,), allowed 0.002" == error.failure


def test_a_row_in_which_eager_is_exact_is_held_to_the_others():
    """In one row of many eager is right to the last bit by luck; that is no reason to fail."""
    exact = torch.tensor([[1.0], [1.0]], dtype=torch.float64)
    eager, ours = torch.tensor([[1.001], [1.0]]), torch.tensor([[1.0], [1.001]])
    assert None is compare(ours, eager, exact).failure


def test_a_row_of_small_values_is_not_hidden_by_one_of_large_values():
    """Distances count in units of their row."""
    exact = torch.tensor([[1000.0], [0.001]], dtype=torch.float64)
    eager, wrong = exact.float(), torch.tensor([[1000.0], [0.002]])
    assert "in row (1,)" in str(compare(wrong, eager, exact).failure)


@pytest.mark.parametrize(
    ("out", "eager", "passes"),
    [
        (NAN, NAN, True),
        (1.0, NAN, False),
        (INF, INF, True),
        (-INF, INF, False),
        (NAN, INF, False),
        (NAN, 1.0, False),
        (INF, 1.0, False),
    ],
)
def test_nan_and_infinity_are_where_eager_has_them(out, eager, passes):
    """Neither lost nor invented."""
    found = compare(row(1.0, out), row(1.0, eager), row(1.0, eager, dtype=torch.float64))
    assert passes is (found.failure is None)


def test_a_finite_result_where_only_eager_overflows_is_right():
    """float16 overflows inside eager; float32 inside a kernel does not."""
    half = torch.float16
    exact = row(60000.0, dtype=torch.float64)
    assert None is compare(row(60000.0, dtype=half), row(INF, dtype=half), exact).failure
    assert compare(row(NAN, dtype=half), row(INF, dtype=half), exact).failure


def test_another_shape_or_dtype_is_found():
    """Before any number is compared."""
    out = compare(row(1.0, 2.0), row(1.0), row(1.0).double())
    assert "gives (1, 2) torch.float32 in place of (1, 1) torch.float32" == out.failure
    assert compare(row(1.0, dtype=torch.float16), row(1.0), row(1.0).double()).failure


def test_uninitialised_memory_is_nan_inside_and_the_switch_is_put_back():
    """An output that is not written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    with poisoned():
        assert bool(torch.empty(3).isnan().all())
        assert bool(torch.empty_like(torch.zeros(2)).isnan().all())
    assert before == torch.are_deterministic_algorithms_enabled()


def test_variants_cover_values_and_strides():
    """Nine kinds; only the input's values change, all strides do."""
    arguments = torch.ones(3, 4), torch.ones(4)
    found = dict(variants(arguments))
    assert [
        "random",
        "large",
        "tiny",
        "nan",
        "inf",
        "-inf",
        "all -inf",
        "columns strided",
        "rows strided",
    ] == list(found)
    assert 1 == int(found["nan"][0].isnan().sum())
    assert torch.equal(arguments[1], found["nan"][1])
    assert ((8, 2), (2,)) == tuple(one.stride() for one in found["columns strided"])
    assert (7, 1) == found["rows strided"][0].stride()
    assert all(torch.equal(*pair) for pair in zip(arguments, found["rows strided"], strict=True))


def faulty(function) -> Op:
    swiglu = load("swiglu")
    return Op(
        name="faulty",
        fused=function,
        reference=swiglu.reference,
        cost=swiglu.cost,
        build=swiglu.build,
        timed=swiglu.timed,
        checked=swiglu.checked,
    )


def unwritten(gate, up):
    out = torch.empty_like(gate)
    out[:, 1:] = (torch.nn.functional.silu(gate) * up)[:, 1:]
    return out


def without_nan(gate, up):
    return torch.nan_to_num(torch.nn.functional.silu(gate) * up)


def halved(gate, up):
    return (torch.nn.functional.silu(gate.half()) * up.half()).float()


def ignoring_strides(gate, up):
    def flat(x):
        return x.as_strided(x.shape, (x.shape[1], 1))

    return torch.nn.functional.silu(flat(gate)) * flat(up)


@pytest.mark.parametrize(
    ("function", "case"),
    [
        (unwritten, "random"),
        (without_nan, "nan"),
        (halved, "random"),
        (ignoring_strides, "columns strided"),
    ],
)
def test_a_faulty_kernel_is_found(function, case):
    """An element not written, a NaN swallowed, too few bits, strides ignored."""
    op = faulty(function)
    built = op.build({"M": 3, "I": 33}, torch.float32, torch.Generator().manual_seed(0))
    arguments = dict(variants(built))[case]
    found = check(op, op.fused, arguments, case)
    assert ("faulty", case, "float32", True) == (
        found.op,
        found.case,
        found.dtype,
        found.failure is not None,
    )


def test_what_a_kernel_writes_in_place_does_not_reach_the_reference():
    """The reference works on copies."""

    def in_place(gate, up):
        result = torch.nn.functional.silu(gate) * up
        gate.zero_()
        return result

    op = faulty(in_place)
    built = op.build({"M": 2, "I": 8}, torch.float32, torch.Generator().manual_seed(0))
    assert None is check(op, op.fused, built, "random").failure
