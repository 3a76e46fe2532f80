"""Who can compute what, and with which arguments."""

import pytest
import torch

from warpspan.kernels.bench import providers
from warpspan.kernels.bench.op import Unavailable
from warpspan.kernels.bench.ops import FILES, load


def test_eager_is_what_quantization_replaces():
    """For int8 weights: the linear with the whole weight, made outside the timing."""
    op = load("w8a16_linear")
    arguments = op.build({"M": 2, "K": 8, "N": 4}, torch.float16, torch.Generator().manual_seed(0))
    function, adapt = providers.prepare(op, "eager")
    x, weight, bias = adapt(arguments)
    assert torch.nn.functional.linear is function
    assert (torch.float16, (4, 8), True) == (weight.dtype, tuple(weight.shape), x is arguments[0])
    assert torch.allclose(function(x, weight, bias), op.reference(*arguments), atol=1e-2)


@pytest.mark.parametrize("name", FILES)
def test_every_provider_has_an_answer_for_every_operation(name):
    """A function, or a reason in one sentence."""
    op = load(name)
    reasons = []
    for provider in providers.NAMES:
        try:
            function, adapt = providers.prepare(op, provider)
        except Unavailable as why:
            reasons.append(str(why))
        else:
            assert callable(function)
            assert callable(adapt)
    assert [] == [reason for reason in reasons if not reason or "\n" in reason]


@pytest.mark.parametrize("name", FILES)
def test_torchs_own_entry_computes_the_same(name):
    """eager-native, where there is one, agrees with the reference."""
    op = load(name)
    try:
        function, adapt = providers.prepare(op, "eager-native")
    except Unavailable:
        return
    arguments = op.build(op.checked[1], torch.float32, torch.Generator().manual_seed(0))
    expected, found = op.reference(*arguments), function(*adapt(arguments))
    pairs = zip(
        torch.utils._pytree.tree_leaves(expected),
        torch.utils._pytree.tree_leaves(found),
        strict=True,
    )
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in pairs)


def test_a_library_that_is_not_installed_is_named_with_its_package(monkeypatch):
    """The exact command to get it."""
    monkeypatch.setattr(providers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="not installed: pip install liger-kernel"):
        providers.prepare(load("softmax"), "liger")


@pytest.mark.gpu
@pytest.mark.parametrize("name", FILES)
def test_liger_computes_the_same(name):
    """Our arguments mean to it what they mean to us."""
    op = load(name)
    try:
        function, adapt = providers.prepare(op, "liger")
    except Unavailable as why:
        pytest.skip(str(why))
    arguments = op.build(op.timed[0], torch.float32, torch.Generator("cuda").manual_seed(0))
    expected, found = op.reference(*arguments), function(*adapt(arguments))
    pairs = zip(
        torch.utils._pytree.tree_leaves(expected),
        torch.utils._pytree.tree_leaves(found),
        strict=True,
    )
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in pairs)
