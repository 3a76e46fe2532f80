"""Whole models in three modes, on a scripted device with real computation."""

import pytest
import torch

pytest.importorskip("transformers")

from warpspan.kernels.bench import model as bench
from warpspan.kernels.bench.correctness import Error

pytestmark = pytest.mark.usefixtures("kernels")

STEPS = {"eager": 3e-3, "fused": 1e-3}


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return bench.random_model(bench.TINY, torch.float32, torch.device("cpu"))


def test_modes_share_weights_and_do_not_touch_each_other(tiny):
    """Copies of modules over the same storage; only one of them computes with fused kernels."""
    made = bench.modes(tiny, ["eager", "fused"])
    storages = [{p.data_ptr() for p in one.parameters()} for one in (tiny, *made.values())]
    assert storages[0] == storages[1] == storages[2]
    replaced = {
        name: sum("forward" in vars(module) for module in one.modules())
        for name, one in {"model": tiny, **made}.items()
    }
    # Two layers of norm, layer, attention and MLP, with the norm that the layer calls itself too.
    assert {"model": 0, "eager": 0, "fused": 11} == replaced


def test_fused_logits_keep_the_rule(tiny):
    """Against a float64 copy, for the prefill and for a decode step over the cache."""
    made = bench.modes(tiny, ["eager", "fused"])
    ids = torch.randint(128, (2, 6), generator=torch.Generator().manual_seed(0))
    errors = bench.judged(tiny, made, ids, bench.cache_maker(tiny, 8), torch.float64)
    assert {"fused": None} == {name: error.failure for name, error in errors.items()}


def test_rows_are_a_pass_and_a_token(tiny, scripted):
    """Prefill a pass, decode a token; speed-up is that of the host's time, end to end."""

    class ModelDevice(scripted):
        """Each look at the clock is 3 ms later for eager, 1 ms for fused."""

        def now(self):
            self.host_s += self.step
            return self.host_s

        def record(self):
            self.device_s += self.step / 2
            return self.device_s

        def launches(self, call):
            return 7

        def peak_bytes(self, call):
            return 1024

    device = ModelDevice()
    made = bench.modes(tiny, ["eager", "fused"])
    for name, one in made.items():
        one.register_forward_pre_hook(lambda *_, step=STEPS[name]: setattr(device, "step", step))
    device.step = STEPS["eager"]
    rows = bench.run(
        made,
        bench.Sizes(1, 4, 2),
        device,
        bench.cache_maker(tiny, 6),
        dtype=torch.float32,
        generator=torch.Generator().manual_seed(0),
        rounds=3,
        errors={"fused": Error(1e-6, 1.1, None)},
    )
    assert [
        ("prefill", "B=1,S=4", "eager"),
        ("prefill", "B=1,S=4", "fused"),
        ("decode", "B=1,S=4,new=2", "eager"),
        ("decode", "B=1,S=4,new=2", "fused"),
    ] == [(row.phase, row.shape, row.provider) for row in rows]
    # A token is half of two: 3 ms / 2 and 1 ms / 2.
    assert pytest.approx((1.5e-3, 0.5e-3, 3.0)) == (
        rows[2].wall_s,
        rows[3].wall_s,
        rows[3].speedup,
    )
    assert (7, 1024, 1e-6) == (rows[3].launches, rows[3].peak_bytes, rows[3].max_error)


@pytest.mark.parametrize("steps", [1, 3])
def test_decode_feeds_each_token_back(tiny, steps):
    """Greedy tokens over the cache are those of a model without one."""
    ids = torch.randint(128, (1, 4), generator=torch.Generator().manual_seed(1))
    cache = bench.cache_maker(tiny, 8)()
    token = bench.prefill(tiny, ids, cache)[:, -1:].argmax(-1)
    found = bench.decode(tiny, token, cache, steps)
    whole = torch.cat((ids, token), dim=1)
    for _ in range(steps):
        whole = torch.cat((whole, tiny(input_ids=whole).logits[:, -1:].argmax(-1)), dim=1)
    assert whole[:, 5:].tolist() == found.tolist()
