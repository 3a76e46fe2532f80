"""Sizes of real caches, computed by hand: every kind that transformers 4.44 and 5 make."""

import copy
import gc
import logging
import weakref

import pytest
import torch

import warpspan
from tests.support.caches import (
    BATCH,
    FLOAT,
    HEAD,
    HEADS,
    KIND,
    LAYERS,
    NEW,
    Loop,
    decoder,
    gpt2,
    ids,
    mamba,
    seen,
    size,
    t5,
)
from warpspan.probes import kv_cache

transformers = pytest.importorskip("transformers")

# What 4.44 and torch 2.4 deprecate in each other's company, and its notes on tuples.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def quiet():
    """Notes of transformers on kernels that are not installed are no concern here."""
    transformers.logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with torch.no_grad():
        yield


def test_llama_by_calls_of_its_own(telemetry):
    """A prompt and a token after it: each call is an inference with the cache at its end."""
    model = decoder()
    past = model(ids(5)).past_key_values
    model(ids(1), past_key_values=past)
    assert [
        (KIND, size(5), size(5), 5, 5, None, 2),
        (KIND, size(6), size(1), 6, 1, None, 2),
    ] == seen(telemetry)


def test_a_cache_that_the_caller_made(telemetry):
    """It is the same object all along, empty at first; the shares are those of its size."""
    model = decoder()
    cache = transformers.DynamicCache()
    for tokens in (5, 3, 1):
        model(input_ids=ids(tokens), past_key_values=cache, return_dict=False)
    assert [
        ("dynamic", size(5), size(5), 5, 5, None, 2),
        ("dynamic", size(8), size(3), 8, 3, None, 2),
        ("dynamic", size(9), size(1), 9, 1, None, 2),
    ] == seen(telemetry)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    last = telemetry.records()[-1].cache
    assert (size(9), size(9) / weights, None) == (
        last.retained_bytes,
        last.weight_ratio,
        last.utilization,
    )
    assert (size(9), 1) == (last.alive_bytes, last.alive_count)


def test_a_cache_that_was_cut_between_calls(telemetry):
    """Its slices keep the whole storage alive until the next call makes new ones."""
    model = decoder()
    cache = transformers.DynamicCache()
    model(ids(9), past_key_values=cache)
    cache.crop(-4)
    model(ids(1), past_key_values=cache)
    assert ("dynamic", size(6), size(6) - size(9), 6, 1, None, 2) == seen(telemetry)[1]


def test_a_sliding_window_holds_what_its_slices_keep_alive(telemetry):
    """After a prompt of 7 with a window of 4 in transformers 5: 3 tokens, the memory of 7."""
    model = decoder("Mistral", sliding_window=4)
    past = model(ids(7)).past_key_values
    model(ids(1), past_key_values=past)
    expected = [
        ("sliding", size(7), size(7), 3, 3, None, 2),
        ("sliding", size(4), size(4) - size(7), 3, 0, None, 2),
    ]
    if not NEW:  # no window in the cache
        expected = [
            ("tuple", size(7), size(7), 7, 7, None, 2),
            ("tuple", size(8), size(1), 8, 1, None, 2),
        ]
    assert expected == seen(telemetry)


def test_views_count_as_the_storage_that_they_hold(telemetry):
    """GPT-2 in 4.44 keeps slices of queries, keys and values: the queries stay in memory, too."""
    model = gpt2()
    past = model(ids(5)).past_key_values
    model(ids(1), past)  # also by position
    first = size(5, HEADS) if NEW else size(5, HEADS) // 2 * 3
    assert [
        (KIND, first, first, 5, 5, None, 2),
        (KIND, size(6, HEADS), size(6, HEADS) - first, 6, 1, None, 2),
    ] == seen(telemetry)


def test_an_encoder_decoder(telemetry):
    """The decoder's own tokens, and the bytes of those that it attends to in the encoder."""
    model = t5()
    output = model(input_ids=ids(5), decoder_input_ids=ids(3))
    model(
        encoder_outputs=(output.encoder_last_hidden_state,),
        decoder_input_ids=ids(1),
        past_key_values=output.past_key_values,
    )
    kind, both = "encoder_decoder" if NEW else "tuple", size(5 + 3, HEADS)
    assert [
        (kind, both, both, 3, 3, None, 2),
        (kind, size(5 + 4, HEADS), size(1, HEADS), 4, 1, None, 2),
    ] == seen(telemetry)


def test_recurrent_states_have_no_tokens(telemetry):
    """Mamba: a convolution window of 4 and a state of 4 for each of 64 channels, of fixed size."""
    model = mamba()
    cache = model(ids(5), use_cache=True).cache_params
    step = {} if NEW else {"cache_position": torch.tensor([5])}
    model(ids(1), cache_params=cache, use_cache=True, **step)
    states = LAYERS * BATCH * 64 * (4 + 4) * FLOAT
    assert [
        ("state", states, states, None, None, None, 2),
        ("state", states, 0, None, None, None, 2),
    ] == seen(telemetry)


def static(model, room=16):
    if NEW:
        return transformers.StaticCache(config=model.config, max_cache_len=room)
    return transformers.StaticCache(
        config=model.config, max_batch_size=BATCH, max_cache_len=room, device="cpu"
    )


def test_a_static_cache_has_its_room_from_the_start(telemetry):
    """How much of it is used only a tensor on the device says, which is not read."""
    model = decoder()
    cache = static(model)
    model(ids(5), past_key_values=cache, cache_position=torch.arange(5))
    model(ids(1), past_key_values=cache, cache_position=torch.tensor([5]))
    at_first = size(16) if NEW else 0  # 4.44 makes its tensors with the cache
    assert [
        ("static", size(16), at_first, None, None, 16, 2),
        ("static", size(16), 0, None, None, 16, 2),
    ] == seen(telemetry)


@pytest.mark.skipif(not NEW, reason="transformers 4.44 needs a package of its own to quantize")
def test_a_quantized_cache(telemetry):
    """One byte a number, as stored."""
    model = decoder()
    cache = transformers.QuantizedCache("fp8", model.config)
    model(ids(5), past_key_values=cache)
    model(ids(1), past_key_values=cache)
    assert [
        ("quantized", size(5) // 4, size(5) // 4, 5, 5, None, 2),
        ("quantized", size(6) // 4, size(1) // 4, 6, 1, None, 2),
    ] == seen(telemetry)


def test_layers_of_two_kinds(telemetry):
    """Gemma 2 has a window in every other layer."""
    model = decoder("Gemma2", head_dim=HEAD, sliding_window=4)
    if NEW:
        model(ids(9), use_cache=True)
        assert [("hybrid", size(9), size(9), 9, 9, None, 2)] == seen(telemetry)
    else:
        cache = transformers.HybridCache(
            config=model.config, max_batch_size=BATCH, max_cache_len=16, device="cpu"
        )
        model(ids(9), past_key_values=cache, cache_position=torch.arange(9), use_cache=True)
        both = size(4, layers=1) + size(16, layers=1)
        assert [("hybrid", both, 0, None, None, 16, 2)] == seen(telemetry)


def test_a_generation_is_measured_when_its_cache_dies(telemetry):
    """generate() has let go of it before the inference ends; its last size is known all the same."""
    model = decoder()
    with warpspan.inference("chat"):
        model.generate(ids(5), max_new_tokens=6, do_sample=False, eos_token_id=None)
    (record,) = telemetry.records()
    assert ("dynamic", size(10), size(10), 10, 10, None, 2, 0) == record.cache[:8]
    assert 6 == record.steps.total


@pytest.mark.skipif(not NEW, reason="the old one takes tuples")
def test_a_generation_that_goes_on_with_another_cache(telemetry):
    """Both are seen: the first as it was left, the second as it grew."""
    model = decoder()
    prepare, steps, left = model.prepare_inputs_for_generation, [], []

    def replaced(*args, **kwargs):
        inputs = prepare(*args, **kwargs)
        steps.append(1)
        if len(steps) >= 4:
            if not left:
                left.append(inputs["past_key_values"])
                left.append(copy.deepcopy(left[0]))
            inputs["past_key_values"] = left[1]
        return inputs

    model.prepare_inputs_for_generation = replaced
    model.generate(ids(5), max_new_tokens=6, do_sample=False, eos_token_id=None)
    (record,) = telemetry.records()
    assert (size(10), 10, 6) == (record.cache.size_bytes, record.cache.tokens, record.steps.total)
    assert (size(10) + size(7), 2) == (record.cache.alive_bytes, record.cache.alive_count)
    assert [7, 10] == [cache.get_seq_length() for cache in left]


@pytest.mark.parametrize("make", [gpt2, t5, mamba])
def test_a_generation_of_every_kind(telemetry, make):
    """Objects, tuples and states; nothing of them is left."""
    model = make()
    with warpspan.inference("chat"):
        model.generate(ids(5), max_new_tokens=6, do_sample=False, eos_token_id=None)
    sizes = {
        gpt2: (size(10, HEADS), 10),
        t5: (size(5 + 6, HEADS), 6),
        mamba: (LAYERS * BATCH * 64 * (4 + 4) * FLOAT, None),
    }
    (cache,) = [record.cache for record in telemetry.records()]
    assert (*sizes[make], 0) == (cache.size_bytes, cache.tokens, cache.retained_bytes)


def test_beams_and_a_cache_that_is_given_back(telemetry):
    """Each beam has its own rows, and the caller holds them after the inference."""
    model = decoder()
    with warpspan.inference("chat"):
        output = model.generate(
            ids(5), max_new_tokens=6, do_sample=False, eos_token_id=None, num_beams=3,
            return_dict_in_generate=True,
        )  # fmt: skip
    (cache,) = [record.cache for record in telemetry.records()]
    assert output.past_key_values is not None
    expected = size(10, batch=3 * BATCH)
    assert (expected, 10, expected) == (cache.size_bytes, cache.tokens, cache.retained_bytes)


def test_two_models_in_one_inference(telemetry):
    """The larger cache is shown, each counts for its own model."""
    large, small = decoder(num_hidden_layers=4), gpt2()
    with warpspan.inference("chat"):
        small_past = small(ids(2)).past_key_values
        large_past = large(ids(3)).past_key_values
        small(ids(1), past_key_values=small_past)
        large(ids(1), past_key_values=large_past)
    (cache,) = [record.cache for record in telemetry.records()]
    assert (size(4, layers=4), 4) == (cache.size_bytes, cache.layers)
    points = telemetry.points("pytorch.kv_cache.count")
    assert {("GPT2LMHeadModel", "cpu"), ("LlamaForCausalLM", "cpu")} == points.keys()


def test_no_tensor_and_no_cache_is_kept_alive(telemetry):
    """Neither during the inference, nor after it, nor by the record."""
    model = decoder()
    with warpspan.inference("chat"):
        cache = transformers.DynamicCache()
        model(ids(5), past_key_values=cache)
        pairs = kv_cache.read(cache)
        gone = weakref.ref(cache)
        gc.disable()
        try:
            del cache
            assert None is gone()
        finally:
            gc.enable()
        assert not pairs.held
    output = model(ids(5))
    keys = kv_cache.read(output.past_key_values)
    assert keys.held
    gc.disable()
    try:
        del output
        assert not keys.held
    finally:
        gc.enable()
    assert 2 == len(telemetry.records())


def test_tuples_of_a_loop_of_ones_own(telemetry):
    """The dimension that counts tokens is the one that grows, whatever the layout."""
    model = Loop()
    _, past = model(ids(5))
    _, past = model(ids(3), past)
    model(ids(1), past=past)
    assert [
        ("tuple", size(5), size(5), 5, 5, None, 2),
        ("tuple", size(8), size(3), 8, 3, None, 2),
        ("tuple", size(9), size(1), 9, 1, None, 2),
    ] == seen(telemetry)


def test_tuples_of_a_loop_inside_an_inference(telemetry):
    """They are gone when it ends; their size was read after the last step."""
    model = Loop()

    def answer():
        _, past = model(ids(5))
        for _ in range(4):
            _, past = model(ids(1), past)

    with warpspan.inference("chat"):
        answer()
    (cache,) = [record.cache for record in telemetry.records()]
    assert ("tuple", size(9), size(9), 9, 9, None, 2, 0) == cache[:8]


def test_a_model_without_a_cache_is_left_alone(telemetry, monkeypatch):
    """After a few calls nothing of what it returns is looked at, until it is given a cache."""
    looked_at = []
    given = kv_cache.given
    monkeypatch.setattr(kv_cache, "given", lambda result: looked_at.append(1) or given(result))

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x, past_key_values=None):
            return x, past_key_values

    model = Plain()
    for _ in range(6):
        model(ids(2))
    assert 4 == len(looked_at)
    model(ids(2), past_key_values=[(torch.ones(1, 1, 3, 4), torch.ones(1, 1, 3, 4))])
    assert 5 == len(looked_at)
    cache = ("tuple", 2 * 3 * 4 * 4, 0, None, None, None, 1)
    assert [None] * 6 + [cache] == seen(telemetry)


def test_an_error_of_a_cache_costs_nothing_but_its_attributes(uninstrumented):
    """The inference is recorded, the fault is counted."""
    from warpspan import guard

    class BrokenCache:
        def __init__(self):
            self.layers = [object()]

    class Model(Loop):
        def forward(self, tokens, past_key_values=None):
            return super().forward(tokens)[0]

    uninstrumented.instrument()
    model = Model()
    model(ids(2), past_key_values=BrokenCache())
    assert [None] == seen(uninstrumented)
    assert {"kv cache": 1} == dict(guard.faults)
    guard.forget()
