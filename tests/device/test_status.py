"""What a process tells `top`: only while somebody looks, and only to its own user."""

import json
import os
import stat
from types import SimpleNamespace

import pytest

from warpspan.device import status
from warpspan.device.status import Publisher
from warpspan.records import DeviceSample, Quantities


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
    Publisher(environ)([Meter()])
    assert [] == list(tmp_path.iterdir())
    assert [] == status.read(environ)


def test_rates_and_means_since_the_time_before(environ, clock):
    """Of the inferences in between: 20 in two seconds, ten of them measured."""
    publisher, meter = Publisher(environ), Meter()
    assert status.watch(environ)
    publisher([meter])
    [told] = status.read(environ)
    assert {"id": "GPU-0", "index": 0, "open": 1, "inferences": 10} == told["devices"][0]
    clock.s += 2
    meter.inferences, meter.measured = 30, 20
    meter.reported = Quantities(2.0, 55.0, None, 3e9)
    publisher([meter])
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


def test_only_its_own_user_may_look(environ, tmp_path):
    """Directory 0700, files 0600; a directory that others may enter is not used."""
    status.watch(environ)
    Publisher(environ)([Meter()])
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
    Publisher(environ)([Meter()])
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
