"""A process that forks, and runs inferences on a scripted GPU before and after, in both."""

import os
import time

import torch

from warpspan.testing import InMemoryTelemetry, ScriptedClock, ScriptedDevice


class LiveClock(ScriptedClock):
    def now_ns(self):
        return time.perf_counter_ns()

    def wall_ns(self):
        return time.time_ns()

    def advance_to(self, now_ns):
        left_ns = max(0, now_ns - self.now_ns())
        time.sleep(left_ns / 1e9)
        return left_ns


def run(name, count):
    model = torch.nn.Linear(2, 2).eval().to("cuda")
    tokens = torch.ones(1, 2, device="cuda")
    before = len(telemetry.records())
    for _ in range(count):
        with torch.inference_mode():
            model(tokens)
        torch.cuda.synchronize()
    records = telemetry.records()
    print(
        name,
        len(records) - before,
        any(record.usage is not None and record.usage.energy_j for record in records),
        flush=True,
    )


torch.set_num_threads(1)
with (
    ScriptedDevice(uuids=[f"{0:032x}"], clock=LiveClock()) as device,
    InMemoryTelemetry(sample_period_s=0.1) as telemetry,
):
    device.op_time_s = 2e-3
    # CUDA can't be used in a child of a process that has used it; a scripted device can, so that
    # this child has a sampler that it did not inherit, and needs one.
    torch.cuda._is_in_bad_fork = lambda: False
    run("parent", 1)
    child = os.fork()
    if not child:
        run("child", 300)
        os._exit(0)
    os.waitpid(child, 0)
    run("parent", 300)
