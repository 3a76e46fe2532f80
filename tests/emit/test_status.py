"""What a process tells `top`: only while somebody looks, and only to its own user."""

import json
import os
import stat
from types import SimpleNamespace

import pytest
import torch
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

import warpspan
from tests.support.records import full_inference, inference
from warpspan.emit import status
from warpspan.emit.status import Publisher
from warpspan.records import DeviceSample, Generation, Loop, Quantities, Timing


@pytest.fixture
def environ(tmp_path):
    return {"XDG_RUNTIME_DIR": str(tmp_path), "OTEL_SERVICE_NAME": "shop"}


@pytest.fixture
def clock(monkeypatch):
    """Monotonic time that the test sets."""
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(status.time, "monotonic", lambda: now.s)
    return now


class Meter:
    """As much of a meter as is told of."""

    def __init__(self):
        self.runtime_device = SimpleNamespace(device=SimpleNamespace(id="GPU-0", ordinal=0), open=1)
        self.latest = DeviceSample(0, "GPU-0")
        self.inferences = self.measured = 10
        self.reported = Quantities(1.0, 5.0, None, 1e9)


def test_nothing_is_written_where_nobody_looks(environ, tmp_path):
    """Not even a directory is made."""
    Publisher(environ, lambda: [Meter()]).tick()
    assert [] == list(tmp_path.iterdir())
    assert [] == status.read(environ)


def test_rates_and_means_since_the_time_before(environ, clock):
    """Of the inferences in between: 20 in two seconds, ten of them measured."""
    meter = Meter()
    publisher = Publisher(environ, lambda: [meter], lambda: "shop")
    assert status.watch(environ)
    publisher.tick()
    [told] = status.read(environ)
    assert {"id": "GPU-0", "index": 0, "open": 1, "inferences": 10} == told["devices"][0]
    clock.s += 2
    meter.inferences, meter.measured = 30, 20
    meter.reported = Quantities(2.0, 55.0, None, 3e9)
    publisher.tick()
    [told] = status.read(environ)
    assert (os.getpid(), "shop") == (told["pid"], told["service"])
    assert [
        {
            "id": "GPU-0",
            "index": 0,
            "open": 1,
            "inferences": 30,
            "inferences_per_s": 10.0,
            "gpu_s_per_inference": 0.1,
            "joules_per_inference": 5.0,
            "cycles_elapsed_per_inference": 2e8,
        }
    ] == told["devices"]
    publisher.close()
    assert [] == status.read(environ)


def test_once_a_second(environ, clock, tmp_path):
    """Inferences in between are told with the next file."""
    status.watch(environ)
    publisher = Publisher(environ)
    publisher.tick()
    for _ in range(3):
        publisher.add(None, inference())
    assert [[]] == [told["inferences"] for told in status.read(environ)]
    clock.s += 1
    publisher.add(None, inference())
    assert [[3]] == [
        [one["inferences"] for one in told["inferences"]] for told in status.read(environ)
    ]


def test_inferences_by_operation_and_model(environ, clock):
    """Counts, sums with the numbers of their inferences, and the latest durations."""
    status.watch(environ)
    publisher = Publisher(environ)
    publisher.tick()
    for duration_s in (1.0, 2.0, 3.0):
        publisher.add(None, inference(duration_s=duration_s, timing=Timing(cpu_time_s=0.5)))
    publisher.add(
        None,
        full_inference(operation="generate", loop=Loop(generation=Generation(generated_tokens=7))),
    )
    clock.s += 1
    publisher.tick()
    [told] = status.read(environ)
    assert [
        {
            "operation": "forward",
            "model": None,
            "device": "cpu",
            "inferences": 3,
            "failed": 0,
            "tokens": None,
            "sums": {"cpu_s": [1.5, 3]},
            "durations_s": [1.0, 2.0, 3.0],
        },
        {
            "operation": "generate",
            "model": "BertModel",
            "device": "GPU-1234",
            "inferences": 1,
            "failed": 1,
            "tokens": 7,
            "sums": {
                "cpu_s": [0.1, 1],
                "queue_s": [0.01, 1],
                "gpu_s": [0.2, 1],
                "joules": [90.0, 1],
            },
            "durations_s": [0.25],
        },
    ] == told["inferences"]
    clock.s += 61  # the durations are old, the counts stay
    publisher.tick()
    [told] = status.read(environ)
    assert (3, []) == tuple(told["inferences"][0][name] for name in ("inferences", "durations_s"))


def test_too_many_names(environ, clock):
    """They are one row."""
    status.watch(environ)
    publisher = Publisher(environ)
    publisher.tick()
    for number in range(105):
        publisher.add(None, inference(operation=f"op{number}"))
    clock.s += 1
    publisher.tick()
    [told] = status.read(environ)
    assert (101, "other", 5) == (
        len(told["inferences"]),
        told["inferences"][-1]["operation"],
        told["inferences"][-1]["inferences"],
    )


def test_nobody_looks_any_more(environ, clock, tmp_path):
    """What was collected is dropped; who looks again sees counts from then on."""
    status.watch(environ)
    publisher = Publisher(environ)
    publisher.tick()
    publisher.add(None, inference())
    (tmp_path / "warpspan" / "watch").unlink()
    clock.s += 1
    publisher.tick()
    publisher.add(None, inference())
    status.watch(environ)
    clock.s += 1
    publisher.tick()
    assert [[]] == [told["inferences"] for told in status.read(environ)]


def test_a_process_without_a_gpu_tells(environ, monkeypatch, uninstrumented):
    """Of its inferences, by the name that its program gave the service."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    status.watch(environ)
    resource = Resource.create({"service.name": "checkout"})
    uninstrumented.instrument(tracer_provider=TracerProvider(resource=resource))
    session = warpspan.instrumentor.active_session()
    model = torch.nn.Linear(4, 4).eval()
    model(torch.ones(2, 4))
    warpspan.flush()
    model(torch.ones(2, 4))
    warpspan.flush()
    session._status._due_s = 0.0
    session._status.tick()
    [told] = status.read(environ)
    assert ("checkout", "forward", "Linear", "cpu") == (
        told["service"],
        *(told["inferences"][0][name] for name in ("operation", "model", "device")),
    )
    warpspan.WarpspanInstrumentor().uninstrument()
    assert [] == status.read(environ)


def test_only_its_own_user_may_look(environ, tmp_path):
    """Directory 0700, files 0600; a directory that others may enter is not used."""
    status.watch(environ)
    Publisher(environ, lambda: [Meter()]).tick()
    folder = tmp_path / "warpspan"
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    folder.chmod(0o755)
    assert not status.watch(environ)
    assert [] == status.read(environ)


def test_a_link_in_its_place_is_not_followed(environ, tmp_path):
    """Where another user could have put one: nothing is read or written through it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (tmp_path / "warpspan").symlink_to(elsewhere)
    assert not status.watch(environ)
    Publisher(environ, lambda: [Meter()]).tick()
    assert [] == list(elsewhere.iterdir())


def test_what_is_old_or_broken_or_of_the_dead_is_not_shown(environ, tmp_path):
    """And what a process that was killed left behind is removed."""
    status.watch(environ)
    folder = tmp_path / "warpspan"
    (folder / "1.json").write_text('{"pid": 1, "unix_time": 0, "devices": []}')
    (folder / "2.json").write_text('{"pid":')
    dead = folder / "3.json"
    dead.write_text(json.dumps({"pid": 2**22 + 1, "unix_time": 9e9, "devices": []}))
    assert [] == status.read(environ)
    assert not dead.exists()


def test_a_place_without_a_runtime_directory(monkeypatch, tmp_path):
    """Under the directory for temporary files, named by user."""
    monkeypatch.setattr(status.tempfile, "gettempdir", lambda: str(tmp_path))
    assert tmp_path / f"warpspan-{os.getuid()}" == status.folder({})
