"""The article's cases and mistakes: each program with its fault and without it, compared.

    python examples/cases                 all of them
    python examples/cases kv_cache        one of them

Each runs under `warpspan run`. What follows is the verdict of both runs, and what the cure changed.
A case whose fault shows on a GPU alone runs on the virtual GPU of the checkout where there is no
other; its figures are then simulated, and said to be.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
VIRTUAL_GPU = HERE.parents[1] / "tests" / "virtual_gpu"
#: The cases, and whether the fault shows on a GPU alone.
CASES = {
    "kv_cache": False,
    "tokenizing": True,
    "batch_of_one": False,
    "pageable": True,
    "hidden_item": True,
    "full_precision": True,
    "oversized": True,
}
#: Of the simulated card, so that weights that fill it fit into a laptop's memory.
SIMULATED_BYTES = 1 << 30


def main() -> int:
    """Run the cases that were asked for; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the recorded files there")
    options = parser.parse_args()
    if unknown := [case for case in options.cases if case not in CASES]:
        parser.error(f"there is no case {unknown[0]}; there are {', '.join(CASES)}")
    failed = False
    with tempfile.TemporaryDirectory(prefix="warpspan-cases-") as folder:
        keep = options.keep or Path(folder)
        keep.mkdir(parents=True, exist_ok=True)
        for case in options.cases or CASES:
            failed |= not run(case, keep)
    return int(failed)


def run(case: str, folder: Path) -> bool:
    """Run a case with its fault and without it, and compare; whether both runs ended well."""
    environ, note = _environ(needs_gpu=CASES[case])
    said = (HERE / f"{case}.py").read_text(encoding="utf-8").split('"""')[1].splitlines()[0]
    print(f"\n== {case}: {said}{note}", flush=True)
    if environ is None:
        return True
    files = []
    for name, arguments in (("before", []), ("after", ["--cured"])):
        files.append(str(folder / f"{case}-{name}.jsonl"))
        program = [sys.executable, str(HERE / f"{case}.py"), *arguments]
        command = [sys.executable, "-m", "warpspan", "run", "-o", files[-1], "--", *program]
        print(f"\n-- {name}", flush=True)
        if subprocess.run(command, env=environ, check=False).returncode:
            return False
    print("\n-- what changed", flush=True)
    command = [sys.executable, "-m", "warpspan", "compare", *files]
    return subprocess.run(command, check=False).returncode == 0


def _environ(*, needs_gpu: bool) -> tuple[dict[str, str] | None, str]:
    """The environment of a case's program, or None where it can't run; and what to say of it."""
    import torch

    environ = dict(os.environ)
    if not needs_gpu or torch.cuda.is_available():
        return environ, ""
    if not VIRTUAL_GPU.is_dir():
        return None, " (skipped: needs a GPU, or the virtual one of a checkout)"
    sys.path.insert(0, str(VIRTUAL_GPU))
    from virtual_gpu import NAME, UnbuildableError, environment

    given = environ.get("OTEL_RESOURCE_ATTRIBUTES")
    environ["OTEL_RESOURCE_ATTRIBUTES"] = ",".join(filter(None, [given, f"hw.name={NAME}"]))
    try:
        return environment(1, SIMULATED_BYTES, base=environ), " (simulated GPU)"
    except UnbuildableError as reason:
        return None, f" (skipped: {reason})"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
