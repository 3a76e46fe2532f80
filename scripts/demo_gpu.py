"""The demo on a virtual GPU: what GPU telemetry looks like, on a machine that has none.

Nothing here was measured on a GPU. Times, energy and clocks are those of a simulated device, and
numbers are right since the host computes them; so each line says "simulated", and the resource of
all telemetry has `hw.name` "virtual GPU". Needs Linux on x86-64, g++ and the CUDA build of torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "virtual_gpu"))

from virtual_gpu import NAME, UnbuildableError, environment  # noqa: E402 - not a package of this project


def main() -> int:
    """Run the demo with the virtual GPU; its exit code."""
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES")
    base = {
        **os.environ,
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(filter(None, [given, f"hw.name={NAME}"])),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), *sys.argv[1:]]
    command += ["--app", "virtual_gpu.service:app"]
    command += ["--output", str(ROOT / "warpspan-demo-gpu.jsonl")]
    try:
        env = environment(base=base)
    except UnbuildableError as reason:
        sys.exit(f"demo-gpu: {reason}.")
    demo = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in demo.stdout or ():
        print(f"simulated | {line}", end="", flush=True)
    return demo.wait()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
