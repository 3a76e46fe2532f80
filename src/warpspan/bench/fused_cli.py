"""`warpspan bench fused` and `warpspan bench model`: sub-commands for the command line."""

from __future__ import annotations

import csv
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from warpspan.bench.correctness import Check
    from warpspan.bench.op import Op
    from warpspan.bench.rows import BenchRow

app = typer.Typer(no_args_is_help=True, add_completion=False)

NO_GPU = (
    "No CUDA GPU is visible to torch, so nothing can be timed; "
    "`warpspan bench fused --interpret` checks the kernels on the CPU instead."
)
NO_TORCH = "warpspan bench needs torch: pip install torch"
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
CACHES = ("cold", "hot")

# Results go to stdout, progress and complaints to stderr.
_out, _err = Console(), Console(stderr=True)


def _fail(sentence: str, code: int = 2) -> typer.Exit:
    _err.print(sentence, style="red", highlight=False, soft_wrap=True)
    return typer.Exit(code)


def _choice(option: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    for name in given:
        if name not in known:
            raise _fail(f"--{option} {name} is not known; choose from: {', '.join(known)}.")
    return list(given) or list(known)


@app.command()
def fused(
    op: Annotated[list[str] | None, typer.Option(help="Operation, repeatable; all.")] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16 or bf16, repeatable; bf16.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Sizes such as M=8,H=4096, repeatable.")
    ] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Repeatable; all.")] = None,
    cache: Annotated[list[str] | None, typer.Option(help="cold or hot, repeatable; both.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Turns of each provider.")] = 30,
    seed: Annotated[int | None, typer.Option(help="Of the random inputs; a fresh one.")] = None,
    interpret: Annotated[
        bool, typer.Option("--interpret", help="Correctness on the CPU, no timing.")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all values.")] = None,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write the rows.")] = None,
    html_path: Annotated[
        Path | None, typer.Option("--html", help="Write tables and plots as one page.")
    ] = None,
    plot_path: Annotated[
        Path | None, typer.Option("--plot", help="Write the plots as .png or .svg.")
    ] = None,
) -> None:
    """Do fused Triton kernels pay on this GPU? Checks every kernel, then times every provider."""
    if interpret:
        # Read by Triton when a kernel is defined: before anything imports one.
        os.environ["TRITON_INTERPRET"] = "1"
    else:
        os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")
    try:
        import torch
    except ImportError:
        raise _fail(NO_TORCH) from None
    if not interpret and not torch.cuda.is_available():
        raise _fail(NO_GPU)
    from warpspan.bench import ops, providers

    names = _choice("op", op or [], list(ops.FILES))
    dtypes = _choice("dtype", dtype or ([] if interpret else ["bf16"]), list(DTYPES))
    chosen = _choice("provider", provider or [], providers.NAMES)
    caches = _choice("cache", cache or [], CACHES)
    try:
        loaded = [ops.load(name) for name in names]
    except ImportError as error:
        raise _fail(str(error)) from None
    sizes = {one.name: _sizes(one, shape or []) for one in loaded}
    if shape and not any(sizes.values()):
        takes = "; ".join(f"{one.name} takes {_names(one)}" for one in loaded)
        raise _fail(f"--shape {' '.join(shape)} fits no chosen operation: {takes}.")
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    torch.set_grad_enabled(False)

    torch_dtypes = [getattr(torch, DTYPES[name]) for name in dtypes]
    checks = _checked(loaded, torch_dtypes, seed, interpret=interpret)
    environment = _environment(seed, interpret=interpret)
    failed = [check for check in checks if check.failure]
    rows: list[BenchRow] = []
    if not interpret and not failed:
        try:
            rows = _timed(loaded, sizes, torch_dtypes, chosen, caches, rounds, seed, environment)
        except Exception as error:
            from warpspan.bench.fused import WrongResultError

            if not isinstance(error, WrongResultError):
                raise
            raise _fail(f"FAILED {error}", 1) from None
    _show(checks, rows)
    _write(json_path, csv_path, html_path, plot_path, checks, rows, environment)
    for check in failed:
        _err.print(
            f"FAILED {check.op} {check.dtype} {check.case}: {check.failure}",
            style="red",
            highlight=False,
            soft_wrap=True,
        )
    if failed:
        raise typer.Exit(1)


def _names(op: Op) -> str:
    return ",".join(f"{name}=..." for name in op.timed[0])


def _sizes(op: Op, given: Sequence[str]) -> list[dict[str, int]]:
    """The sizes to time: those given that have the operation's dimensions, or its own."""
    if not given:
        return [dict(dims) for dims in op.timed]
    fitting = []
    for text in given:
        try:
            dims = {name: int(size) for name, size in (part.split("=") for part in text.split(","))}
        except ValueError:
            raise _fail(f"--shape {text} is not understood; write sizes as M=8,H=4096.") from None
        if set(dims) == set(op.timed[0]) and all(size > 0 for size in dims.values()):
            fitting.append({name: dims[name] for name in op.timed[0]})
    return fitting


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_err,
        transient=True,
    )


def _checked(loaded: list[Op], dtypes: list[Any], seed: int, *, interpret: bool) -> list[Check]:
    import torch

    from warpspan.bench import fused as suite

    generator = torch.Generator("cpu" if interpret else "cuda").manual_seed(seed)
    checks: list[Check] = []
    with _progress() as progress:
        task = progress.add_task("checking", total=len(loaded) * len(dtypes))
        for one in loaded:
            for dtype in dtypes:
                progress.update(task, description=f"checking {one.name}")
                checks += suite.check(one, dtype, generator, interpreted=interpret)
                progress.advance(task)
    return checks


def _timed(
    loaded: list[Op],
    sizes: dict[str, list[dict[str, int]]],
    dtypes: list[Any],
    chosen: list[str],
    caches: list[str],
    rounds: int,
    seed: int,
    environment: dict[str, Any],
) -> list[BenchRow]:
    import torch

    from warpspan import signals
    from warpspan.bench import cuda
    from warpspan.bench import fused as suite

    device = cuda.CudaDevice()
    ceiling = suite.Ceiling(2 * cuda.COPY_BYTES, cuda.datasheet_bandwidth(device.name))
    generator = torch.Generator("cuda").manual_seed(seed)
    of_span = {
        signals.PYTORCH_DEVICE_TYPE: "cuda",
        signals.PYTORCH_DEVICE_INDEX: torch.cuda.current_device(),
        signals.HW_ID: environment["gpu_id"],
    }
    cases = [(one, dims, dtype) for one in loaded for dtype in dtypes for dims in sizes[one.name]]
    rows: list[BenchRow] = []
    with suite.Run("bench fused", of_span) as run, _progress() as progress:
        task = progress.add_task("timing", total=len(cases))
        for one, dims, dtype in cases:
            progress.update(task, description=f"timing {one.name}")
            start_ns = time.time_ns()
            found = suite.run_case(
                one,
                dims,
                dtype,
                chosen,
                device,
                ceiling,
                generator=generator,
                rounds=rounds,
                caches=caches,
                meter=cuda.CudaMeter(),
            )
            run.add(found, start_ns)
            rows += found
            progress.advance(task)
    return rows


def _environment(seed: int, *, interpret: bool) -> dict[str, Any]:
    """What a figure depends on; absent values are None."""
    import torch
    import triton

    gpu = None if interpret else torch.cuda.get_device_properties(torch.cuda.current_device())
    identity = getattr(gpu, "uuid", None)
    return {
        "gpu": getattr(gpu, "name", None),
        "gpu_id": None if identity is None else f"GPU-{identity}",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "interpreted": interpret,
        "seed": seed,
    }


def _show(checks: list[Check], rows: list[BenchRow]) -> None:
    from warpspan.bench import table

    _out.print(table.checks_table(checks))
    for one in table.tables(rows):
        _out.print(one)
    for note in table.notes(rows):
        _out.print(note, style="dim", highlight=False, soft_wrap=True)


def _write(
    json_path: Path | None,
    csv_path: Path | None,
    html_path: Path | None,
    plot_path: Path | None,
    checks: list[Check],
    rows: list[BenchRow],
    environment: dict[str, Any],
) -> None:
    from warpspan.bench import plots
    from warpspan.bench.rows import BenchRow, verdict

    by_op = {op: [row for row in rows if row.op == op] for op in dict.fromkeys(r.op for r in rows)}
    try:
        if json_path is not None:
            value = {
                "environment": environment,
                "checks": [check._asdict() for check in checks],
                "rows": [row.to_json() for row in rows],
                "verdicts": {op: verdict(of_op) for op, of_op in by_op.items()},
            }
            json_path.write_text(json.dumps(value, indent=1) + "\n")
        if csv_path is not None:
            with csv_path.open("w", newline="") as file:
                header = list(BenchRow("", "", "", "", "", "").to_json())
                writer = csv.DictWriter(file, header)
                writer.writeheader()
                writer.writerows(row.to_json() for row in rows)
        if html_path is not None:
            html_path.write_text(plots.page(rows, environment))
        if plot_path is not None:
            plots.save(rows, plot_path)
    except plots.MissingMatplotlibError as error:
        raise _fail(str(error)) from None
    except OSError as error:
        raise _fail(f"{error.filename} can't be written: {error.strerror}.") from None


if __name__ == "__main__":
    sys.exit(app())
