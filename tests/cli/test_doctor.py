"""`warpspan doctor`: each line says what works, or what does not and what to do."""

import io
import json
import logging

import pytest
from rich.console import Console

from warpspan.cli import doctor, doctor_device, doctor_software
from warpspan.cli.finding import Finding
from warpspan.device import discovery, driver
from warpspan.device.driver import Gpu, Instance
from warpspan.records import DeviceSample

written: list[str] = []


class Ascii(io.StringIO):
    """A stream of a terminal in the C locale."""

    encoding = "ascii"

    def write(self, text):
        written.append(text.encode("ascii").decode())
        return len(text)


class Reader:
    def __init__(self, samples):
        self.samples = samples

    def read(self, taken_ns, *, slowly=False):
        return self.samples.pop(0)


class Driver(driver.NoDriver):
    """One GPU that reads what the test says."""

    def __init__(self, gpu=None, refused=None, **values):
        super().__init__("")
        self.problem = None
        self.gpu = gpu or Gpu("GPU-0", "1", "H100", 80 << 30)
        self.refused = refused or {}
        self.values = values

    def open(self):
        return True

    def version(self):
        return "570"

    def cuda_version(self):
        return "12.8"

    def gpus(self):
        return [self.gpu]

    def refusals(self, uuid):
        return self.refused

    def reader(self, uuid):
        return Reader([DeviceSample(0, uuid), DeviceSample(1, uuid, **self.values)])


@pytest.fixture
def findings(monkeypatch):
    """What the check of the driver finds, as (state, said, fix)."""
    monkeypatch.setattr(doctor_device.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(doctor_device, "_torch", lambda shown: iter(()))

    def run(driver, **environ):
        monkeypatch.setattr(discovery, "open_driver", lambda: driver)
        return [(one.state, one.said, one.fix) for one in doctor_device.nvml(environ)]

    return run


def test_a_healthy_device(findings):
    """Version, device, GPM, energy and what a sample costs."""
    found = findings(Driver(sm_utilization=0.5, energy_j=1.0, power_w=3.0, cost_s=0.001))
    assert [
        ("ok", "driver 570, for CUDA up to 12.8", ""),
        ("ok", "1 of 1: cuda:0 is GPU-0", ""),
        ("ok", "H100, 80.0 GiB", ""),
        ("ok", "GPM: SM utilization, occupancy, tensor and DRAM activity", ""),
        ("note", "no energy counter: energy is computed as power × time", ""),
        ("ok", "a sample takes 1.00 ms, on its own thread", ""),
    ] == found


def test_gpm_that_is_not_permitted(findings):
    """The reason and the fix come from the driver's answer."""
    refused = {"nvmlGpmSampleGet": "it is for administrators only: load the driver with X"}
    assert (
        "warning",
        "the driver refuses GPM: it is for administrators only",
        "load the driver with X",
    ) in findings(Driver(refused=refused))


def test_before_hopper_and_throttled(findings):
    """What the device does not offer is a note; what holds its clocks is one, too."""
    found = findings(Driver(throttle_reasons=("sw_power_cap",)))
    assert (
        "note",
        "no GPM (it needs Hopper or newer), so SM utilization is not reported",
        "",
    ) in found
    assert ("warning", "no energy or power counter, so energy is not reported", "") in found
    assert ("note", "throttling now: sw power cap", "") in found


def test_mig(findings):
    """Profiles, why there is no energy, and a GPU without an instance."""
    gpu = Gpu("GPU-0", "1", "H100", None, mig=True, instances=(Instance("MIG-0", 1, 0, "1g.10gb"),))
    assert any(
        "MIG 1g.10gb. The energy counter covers the whole" in said
        for _, said, _ in findings(Driver(gpu))
    )
    empty = findings(Driver(gpu._replace(instances=())))
    assert ("error", "H100: MIG is on, but no instance exists", "nvidia-smi mig -cgi … -C") in empty


def test_nothing_is_visible(findings):
    """CUDA_VISIBLE_DEVICES hides the devices."""
    assert (
        "warning",
        "CUDA shows 0 of 1 GPUs to a program (CUDA_VISIBLE_DEVICES=)",
        "unset CUDA_VISIBLE_DEVICES",
    ) in findings(Driver(), CUDA_VISIBLE_DEVICES="")


def test_several_models(findings, monkeypatch):
    """Their order is only known by PCI address."""
    driver = Driver()
    monkeypatch.setattr(driver, "gpus", lambda: [driver.gpu, Gpu("GPU-1", "2", "A100")])
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in {fix for _, _, fix in findings(driver)}


def test_identical_gpus_are_one(monkeypatch):
    """What differs stands apart, with the numbers of the GPUs."""
    monkeypatch.setattr(doctor_device.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(doctor_device, "_torch", lambda shown: iter(()))

    class Eight(Driver):
        def gpus(self):
            return [Gpu(f"GPU-{i}", str(i), "H100", 80 << 30) for i in range(8)]

        def reader(self, uuid):
            throttled = ("sw_power_cap",) if uuid == "GPU-2" else ()
            values = {"sm_utilization": 0.5, "energy_j": 1.0, "cost_s": int(uuid[-1]) / 1e3}
            samples = [DeviceSample(i, uuid, **values, throttle_reasons=throttled) for i in (0, 1)]
            return Reader(samples)

    monkeypatch.setattr(discovery, "open_driver", Eight)
    found = [(one.subject, one.said) for one in doctor_device.nvml({})][2:]
    gpm = "GPM: SM utilization, occupancy, tensor and DRAM activity"
    assert [
        ("GPU 0-1, 3-7", "7 × H100, 80.0 GiB"),
        ("GPU 0-1, 3-7", gpm),
        ("GPU 0-1, 3-7", "energy counter"),
        ("GPU 0-1, 3-7", "a sample takes up to 7.00 ms, on its own thread"),
        ("GPU 2", "H100, 80.0 GiB"),
        ("GPU 2", gpm),
        ("GPU 2", "energy counter"),
        ("GPU 2", "throttling now: sw power cap"),
        ("GPU 2", "a sample takes 2.00 ms, on its own thread"),
    ] == found


@pytest.mark.parametrize(("files", "state"), [(True, "error"), (False, "note")])
def test_no_library(findings, monkeypatch, files, state):
    """Broken in a container that has a GPU, and nothing missing where there is none."""
    monkeypatch.setattr(doctor_device, "has_device_files", lambda: files)
    [(found, said, fix)] = findings(driver.NoDriver(driver.LIBRARY_MISSING))
    assert state == found
    assert "libnvidia-ml.so.1 was not found" in said
    assert ("NVIDIA_DRIVER_CAPABILITIES=compute,utility" in fix) == files


def test_other_profilers(monkeypatch):
    """DCGM and Nsight share the counters; an injected profiler loads into every program."""
    monkeypatch.setattr(doctor_device, "_running", lambda: iter(["bash", "nv-hostengine"]))
    found = list(doctor_device.other_profilers({"CUDA_INJECTION64_PATH": "/lib/x.so"}))
    assert ["warning", "warning"] == [one.state for one in found]
    assert "DCGM's host engine is running" in found[0].said
    assert "unset CUDA_INJECTION64_PATH" == found[1].fix


def test_settings_that_are_wrong_or_off():
    """The sentence that the program would log; and what is switched off."""
    found = list(
        doctor_software.settings(
            {
                "OTEL_PYTHON_WARPSPAN_QUEUE_SIZE": "many",
                "OTEL_PYTHON_WARPSPAN_SAMPLE_PERIOD": "0",
                "NVIDIA_DCGM_EXPORTER_SERVICE_HOST": "10.0.0.1",
            }
        )
    )
    assert ["warning", "note", "note"] == [one.state for one in found]
    assert "OTEL_PYTHON_WARPSPAN_QUEUE_SIZE='many' is not valid" in found[0].said


def test_a_check_that_fails_is_a_finding(monkeypatch):
    """One broken check costs one line."""

    def broken(environ):
        raise ValueError("odd")

    monkeypatch.setattr(doctor, "_CHECKS", (broken,))
    assert [Finding("error", "broken", "could not be checked: odd")] == doctor.examine({})


def test_the_screen_and_the_json(monkeypatch, capsys):
    """A sign, a subject, a sentence, an arrow to the fix; exit by what is broken."""
    found = [Finding("ok", "a", "works"), Finding("error", "b", "does not", "fix it")]
    monkeypatch.setattr(doctor, "examine", lambda environ: found)
    assert not doctor.doctor(as_json=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert ["✓ a works", "✗ b does not", "    → fix it", "1 error, 0 warnings"] == lines[1:]
    assert not doctor.doctor(as_json=True)
    assert {"healthy": False, "findings": [one._asdict() for one in found]} == json.loads(
        capsys.readouterr().out
    )


def test_a_terminal_without_the_signs(monkeypatch, capsys):
    """Errors, warnings and notes are words there."""
    found = [
        Finding("ok", "a", "works"),
        Finding("note", "b", "8 × H100"),
        Finding("warning", "c", "is absent"),
        Finding("error", "d", "does not", "fix it"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda environ: found)
    monkeypatch.setattr(
        doctor,
        "output_console",
        lambda *, stderr: Console(file=Ascii(), width=60, no_color=True),
    )
    written.clear()
    doctor.doctor(as_json=False)
    assert [
        "ok    a works",
        "note  b 8 x H100",
        "WARN  c is absent",
        "ERROR d does not",
        "        -> fix it",
        "1 error, 1 warning",
    ] == [line.rstrip() for line in "".join(written).splitlines()][1:]


def test_the_log_stays_off_the_screen(monkeypatch, capsys, caplog):
    """What the driver refuses is a line of the table, not a warning above it."""

    def check(environ):
        logging.getLogger("warpspan").warning("refused")
        return [Finding("ok", "a", "works")]

    monkeypatch.setattr(doctor, "_CHECKS", (check,))
    assert doctor.doctor(as_json=True)
    assert ("", []) == (capsys.readouterr().err, caplog.records)


def test_this_machine():
    """Every check runs here, and none of them fails."""
    assert [] == [one for one in doctor.examine({}) if "could not be checked" in one.said]
