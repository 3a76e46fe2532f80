"""What is alive from one inference to the next, and which growth is called a leak."""

import gc
import itertools
import threading
import weakref
from collections import OrderedDict

import pytest
import torch

import warpspan
from warpspan.finish import kv_leaks
from warpspan.instrumentor import active_session

HEAD, FLOAT, LAYERS = 8, 4, 2
THRESHOLD = 0.95


class Layer:
    def __init__(self):
        self.keys = self.values = None


class DynamicCache:
    """As transformers 5 makes them: a list of layers, each with its keys and values."""

    def __init__(self):
        self.layers = [Layer() for _ in range(LAYERS)]

    def append(self, new):
        for layer in self.layers:
            old = layer.keys
            layer.keys = new.clone() if old is None else torch.cat([old, new], -2)
            layer.values = layer.keys.clone()

    def cut(self, tokens):
        for layer in self.layers:
            layer.keys = layer.keys[..., -tokens:, :].clone()
            layer.values = layer.keys.clone()


class StaticCache(DynamicCache):
    def __init__(self, room):
        super().__init__()
        for layer in self.layers:
            layer.max_cache_len = room
            layer.keys = torch.zeros(1, 1, room, HEAD)
            layer.values = torch.zeros(1, 1, room, HEAD)

    def append(self, new):
        pass


class Decoder(torch.nn.Module):
    """Adds one key and one value a token and layer, to a cache or to tuples."""

    def __init__(self, tuples=False):
        super().__init__()
        self.embed = torch.nn.Embedding(8, HEAD)
        self.tuples = tuples

    def forward(self, tokens, past_key_values=None):
        new = self.embed(tokens)[:, None]
        if not self.tuples:
            past_key_values.append(new)
            return new
        layers = past_key_values or [(new[:, :, :0],) * 2] * LAYERS
        return new, [tuple(torch.cat([part, new], -2) for part in layer) for layer in layers]


def ids(tokens):
    return torch.zeros(1, tokens, dtype=torch.long)


def size(tokens):
    return 2 * LAYERS * tokens * HEAD * FLOAT


@pytest.fixture(autouse=True)
def no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def standing(telemetry):
    """Bytes alive, caches alive and the leak score of the one model, from its metrics."""
    values = []
    for name in ("usage", "count", "leak.score"):
        (point,) = telemetry.points(f"pytorch.kv_cache.{name}").values()
        values.append(point.value)
    return tuple(values)


def highest_score(telemetry):
    return max(record.cache.leak_score for record in telemetry.records())


def answer(model, cache, prompt=4, steps=3):
    """A request: a prompt and a few tokens after it."""
    model(ids(prompt), past_key_values=cache)
    for _ in range(steps):
        model(ids(1), past_key_values=cache)


# Healthy programs. None may be named, however long it runs.


@pytest.mark.parametrize("lengths", [(4,), (2, 9, 5, 30, 3), range(2, 60)])
def test_caches_that_go_with_their_request(telemetry, lengths):
    """Also where prompts become longer and longer."""
    model = Decoder()
    for prompt in itertools.islice(itertools.cycle(lengths), 80):
        answer(model, DynamicCache(), prompt)
    assert highest_score(telemetry) < THRESHOLD
    assert (0, 0) == standing(telemetry)[:2]
    assert standing(telemetry)[2] < THRESHOLD


def test_one_session_that_is_cut_when_it_is_full(telemetry):
    """It grows for 15 turns and is cut, again and again."""
    model, cache = Decoder(), DynamicCache()
    for _ in range(150):
        answer(model, cache)
        if cache.layers[0].keys.shape[-2] > 100:
            cache.cut(40)
    assert highest_score(telemetry) < THRESHOLD
    assert standing(telemetry)[2] < THRESHOLD


def test_a_static_cache_that_is_used_for_ever(telemetry):
    """Its size never changes."""
    model, cache = Decoder(), StaticCache(64)
    for _ in range(100):
        answer(model, cache)
    assert highest_score(telemetry) < THRESHOLD
    assert (size(64), 1, 0.0) == standing(telemetry)


def test_a_pool_of_sessions_that_evicts_the_oldest(telemetry):
    """While it fills it looks like a leak would; when it is full it is none."""
    model, pool = Decoder(), OrderedDict()
    for user in range(200):
        cache = pool.setdefault(user, DynamicCache())
        answer(model, cache, steps=1)
        if len(pool) > 24:
            pool.popitem(last=False)
    del cache
    assert (24 * size(5), 24) == standing(telemetry)[:2]
    assert standing(telemetry)[2] < THRESHOLD


def test_a_long_chat_that_ends(telemetry):
    """Its memory is released with it, and so is the suspicion."""
    model, cache = Decoder(), DynamicCache()
    for _ in range(60):
        answer(model, cache)
    assert standing(telemetry)[2] > THRESHOLD
    del cache
    score = standing(telemetry)[2]
    assert (0, 0) == standing(telemetry)[:2]
    assert score < THRESHOLD


def test_one_long_generation_is_one_turn(telemetry):
    """A cache that grows by a token a call is at work, for as long as an answer may be."""
    model, cache = Decoder(), DynamicCache()
    answer(model, cache, steps=900)
    assert highest_score(telemetry) < THRESHOLD


# Leaks. Each must be named.


def test_a_list_that_keeps_each_cache(telemetry):
    """Bytes and caches alive grow with each request, and the score says since when."""
    model, kept = Decoder(), []
    answer(model, DynamicCache())  # a healthy one before
    for _ in range(40):
        kept.append(DynamicCache())
        answer(model, kept[-1])
    alive, caches, score = standing(telemetry)
    assert (40 * size(7), 40) == (alive, caches)
    assert score >= THRESHOLD
    records = telemetry.records()
    last = records[-1].cache
    assert (alive, caches, score) == (last.alive_bytes, last.alive_count, last.leak_score)
    assert abs(records[4].start_ns / 1e9 - last.leak_start_s) < 1e-6
    kept.clear()
    assert (0, 0) == standing(telemetry)[:2]
    assert standing(telemetry)[2] < THRESHOLD


def test_one_conversation_that_grows_without_end(telemetry):
    """The cache is passed on from request to request and never cut."""
    model, cache = Decoder(), DynamicCache()
    for _ in range(40):
        answer(model, cache)
    alive, caches, score = standing(telemetry)
    assert (size(40 * 7), 1) == (alive, caches)
    assert score >= THRESHOLD


def test_a_generation_that_never_ends(telemetry, monkeypatch):
    """Token by token, beyond what any answer takes."""
    monkeypatch.setattr(kv_leaks, "_STEPS_A_TURN", 16)
    model, cache = Decoder(), DynamicCache()
    answer(model, cache, steps=16 * 30)
    assert standing(telemetry)[2] >= THRESHOLD


def test_a_session_for_each_user_that_is_never_evicted(telemetry):
    """Users come back, and new ones come."""
    model, users = Decoder(), {}
    for request in range(90):
        user = request if request % 3 else request // 6
        answer(model, users.setdefault(user, DynamicCache()))
    assert standing(telemetry)[2] >= THRESHOLD
    assert len(users) == standing(telemetry)[1]


def test_one_cache_in_ten_that_is_kept(telemetry):
    """The other nine don't hide it."""
    model, kept = Decoder(), []
    for request in range(400):
        cache = DynamicCache()
        answer(model, cache, prompt=20 if request % 10 else 4, steps=1)
        if request % 10 == 0:
            kept.append(cache)
    assert standing(telemetry)[2] >= THRESHOLD


def test_generations_whose_caches_are_kept(telemetry):
    """Each an inference of its own with steps inside."""
    model, kept = Decoder(), []
    for _ in range(30):
        with warpspan.inference("chat", model=model):
            kept.append(DynamicCache())
            answer(model, kept[-1])
    assert (30 * size(7), 30) == standing(telemetry)[:2]
    assert standing(telemetry)[2] >= THRESHOLD
    assert {size(7)} == {record.cache.retained_bytes for record in telemetry.records()}


# Tuples have no identity: what is alive is told by their tensors.


def converse(model, past, tokens=4):
    return model(ids(tokens), past)[1]


def test_tuples_that_are_kept(telemetry):
    """A list of them is a leak."""
    model, kept = Decoder(tuples=True), []
    for _ in range(40):
        past = converse(model, None)
        kept.append(converse(model, past, 1))
    del past
    assert (40 * size(5), 40) == standing(telemetry)[:2]
    assert standing(telemetry)[2] >= THRESHOLD


def test_tuples_that_are_replaced_by_the_next(telemetry):
    """One conversation is one cache, and goes with its last tuple."""
    model, past = Decoder(tuples=True), None
    for _ in range(40):
        past = converse(model, past)
    assert (size(160), 1) == standing(telemetry)[:2]
    assert standing(telemetry)[2] >= THRESHOLD
    del past
    assert (0, 0) == standing(telemetry)[:2]
    assert standing(telemetry)[2] < THRESHOLD


def test_tuples_that_go_with_their_request(telemetry):
    """Healthy."""
    model = Decoder(tuples=True)
    for prompt in range(2, 60):
        converse(model, converse(model, None, prompt), 1)
    assert highest_score(telemetry) < THRESHOLD
    assert (0, 0) == standing(telemetry)[:2]


def test_tensors_that_outlive_their_cache(telemetry):
    """The object is gone, its memory is not."""
    model, kept = Decoder(), []
    for _ in range(3):
        cache = DynamicCache()
        answer(model, cache)
        kept.append([(layer.keys, layer.values) for layer in cache.layers])
    del cache
    assert (3 * size(7), 3) == standing(telemetry)[:2]
    kept.pop()
    assert (2 * size(7), 2) == standing(telemetry)[:2]


# Our own state.


def test_ten_thousand_inferences_leave_nothing_of_ours(telemetry):
    """Neither caches nor notes on them."""
    model = Decoder()

    def notes():
        gc.collect()
        kinds = {"_Life", "_Trial", "Pulse", "Track", "Watch", "Use", "Reading", "StorageWeakRef"}
        return sum(type(thing).__name__ in kinds for thing in gc.get_objects())

    def run(requests):
        for _ in range(requests):
            answer(model, DynamicCache(), steps=1)
        telemetry.metrics()

    run(500)
    before = notes()
    run(4_500)
    assert notes() <= before + 20


def test_only_so_many_caches_are_watched(telemetry, monkeypatch):
    """The oldest is given up, and that is counted."""
    monkeypatch.setattr(kv_leaks, "_LIVES", 10)
    model, kept = Decoder(), []
    for _ in range(12):
        kept.append(DynamicCache())
        answer(model, kept[-1])
    assert (10 * size(7), 10) == standing(telemetry)[:2]
    points = telemetry.points("warpspan.dropped")
    assert {("kv_cache_forgotten",): 2} == {key: point.value for key, point in points.items()}


def test_many_threads(telemetry):
    """Each with caches of its own, some of which are kept."""
    model, kept = Decoder(), []

    def serve():
        with torch.no_grad():
            for _ in range(50):
                cache = DynamicCache()
                answer(model, cache, steps=1)
            kept.append(cache)

    threads = [threading.Thread(target=serve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (8 * size(5), 8) == standing(telemetry)[:2]
    kept.clear()
    assert (0, 0) == standing(telemetry)[:2]
    assert 8 * 50 * 2 == len(telemetry.records())


def test_a_cache_is_not_kept_alive_between_inferences(telemetry):
    """It dies when its owner lets go of it, not when a collection finds it."""
    model, cache = Decoder(), DynamicCache()
    answer(model, cache)
    assert (size(7), 1) == standing(telemetry)[:2]
    gone = weakref.ref(cache)
    gc.disable()
    try:
        del cache
        assert None is gone()
    finally:
        gc.enable()


def test_a_forked_child_begins_with_no_caches(telemetry):
    """Those that it inherits are the parent's."""
    model, cache = Decoder(), DynamicCache()
    answer(model, cache, steps=2)
    session = active_session()
    assert session.flush(5.0)
    assert 1 == len(session._caches())
    session._start_anew()
    assert [] == session._caches()
