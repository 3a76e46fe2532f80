"""`warpspan bench fused` and `warpspan bench model`: sub-commands for the command line."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from warpspan.kernels import NO_TRITON

if TYPE_CHECKING:
    from warpspan.kernels.bench.correctness import Check, Error
    from warpspan.kernels.bench.fused import BenchDevice
    from warpspan.kernels.bench.op import Op
    from warpspan.kernels.bench.rows import BenchRow

app = typer.Typer(no_args_is_help=True, add_completion=False)

NO_GPU = (
    "No CUDA GPU is visible to torch, so nothing can be timed; "
    "`warpspan bench fused --interpret` checks the kernels on the CPU instead."
)
NO_TORCH = "warpspan bench needs torch: pip install torch"
NO_GPU_MODEL = (
    "No CUDA GPU is visible to torch, so nothing can be timed; "
    "`warpspan bench model --interpret` checks a tiny model on the CPU instead."
)
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
CACHES = ("cold", "hot")
# Columns of a table that goes to a file or a pipe: all of them, none wrapped.
FILE_WIDTH = 220
# Results go to stdout, progress and complaints to stderr.
_out, _err = Console(), Console(stderr=True)


def _fail(sentence: str, code: int = 2) -> typer.Exit:
    # No markup: a sentence may name an extra in brackets.
    _err.print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(code)


def _choice(option: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    for name in given:
        if name not in known:
            raise _fail(f"--{option} {name} is not known; choose from: {', '.join(known)}.")
    return list(given) or list(known)


@app.command()
def fused(
    op: Annotated[
        list[str] | None, typer.Option(help="Operation to run; repeatable (default: all).")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="fp32, fp16 or bf16; repeatable (default: bf16).")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Sizes such as M=8,H=4096; repeatable.")
    ] = None,
    provider: Annotated[
        list[str] | None, typer.Option(help="Provider to time; repeatable (default: all).")
    ] = None,
    cache: Annotated[
        list[str] | None, typer.Option(help="cold or hot; repeatable (default: both).")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Number of turns per provider.")] = 30,
    seed: Annotated[
        int | None, typer.Option(help="Seed for the random inputs (default: random).")
    ] = None,
    interpret: Annotated[
        bool, typer.Option("--interpret", help="Check correctness on the CPU, without timing.")
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
    if interpret and plot_path is not None:
        raise _fail("--plot draws times, and --interpret takes none: use it on a GPU.")
    if interpret:
        # Read by Triton when a kernel is defined: before anything imports one.
        os.environ["TRITON_INTERPRET"] = "1"
    else:
        # Tuning is kept between runs; fused multiply-adds as in Triton before 3.10, which warns.
        os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")
        os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    _check_files([json_path, csv_path, html_path, plot_path], plots=html_path or plot_path)
    torch, device = _torch(NO_GPU, interpret=interpret)
    from warpspan.kernels.bench import ops, output, plots, providers

    names = _choice("op", op or [], list(ops.FILES))
    dtypes = _choice("dtype", dtype or ([] if interpret else ["bf16"]), list(DTYPES))
    chosen = _choice("provider", provider or [], providers.NAMES)
    caches = _choice("cache", cache or [], CACHES)
    loaded = [ops.load(name) for name in names]
    sizes = {one.name: _sizes(one, shape or []) for one in loaded}
    if shape and not any(sizes.values()):
        takes = "; ".join(f"{one.name} takes {_names(one)}" for one in loaded)
        raise _fail(f"--shape {' '.join(shape)} fits no chosen operation: {takes}.")
    seed = _seeded(seed)
    torch_dtypes = [getattr(torch, DTYPES[name]) for name in dtypes]
    checks = _checked(loaded, torch_dtypes, seed, device)
    environment = output.environment(seed, device)
    failed = [check for check in checks if check.failure]
    rows: list[BenchRow] = []
    if device is not None and not failed:
        try:
            rows = _timed(loaded, sizes, torch_dtypes, chosen, caches, rounds, seed, device)
        except Exception as error:
            from warpspan.kernels.bench.fused import WrongResultError

            if not isinstance(error, WrongResultError):
                raise
            raise _fail(f"FAILED {error}", 1) from None
    _show(checks, rows, interpret=interpret)
    _write(json_path, output.save_json, checks, rows, environment)
    _write(csv_path, output.save_csv, rows)
    _write(html_path, output.save_html, checks, rows, environment)
    _write(plot_path, plots.save, rows)
    _exit_on(failed)


@app.command()
def model(
    name: Annotated[
        str | None,
        typer.Option("--model", help="Path or name for transformers; a random Llama 3.2 1B."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1)] = 1,
    prompt: Annotated[int, typer.Option(min=2, help="Tokens of the prompt.")] = 512,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to decode.")] = 32,
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "bf16",
    mode: Annotated[
        list[str] | None, typer.Option(help="eager, compile or fused, repeatable; all.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Turns of each mode.")] = 10,
    seed: Annotated[int | None, typer.Option(help="Of prompts and random weights.")] = None,
    interpret: Annotated[
        bool, typer.Option("--interpret", help="Correctness of a tiny model on the CPU.")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all values.")] = None,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write the rows.")] = None,
) -> None:
    """What do fused kernels gain a whole model? Eager, compiled and fused, end to end."""
    if interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    _check_files([json_path, csv_path], plots=None)
    torch, device = _torch(NO_GPU_MODEL, interpret=interpret)
    from warpspan.kernels.bench import model as bench
    from warpspan.kernels.bench import output

    _choice("dtype", [dtype], list(DTYPES))
    chosen = list(dict.fromkeys(["eager", *_choice("mode", mode or [], bench.MODES)]))
    seed = _seeded(seed)
    place = torch.device("cpu") if device is None else device.torch_device
    torch_dtype = torch.float32 if interpret else getattr(torch, DTYPES[dtype])
    sizes = bench.Sizes(2, 6, 2) if interpret else bench.Sizes(batch, prompt, new_tokens)
    try:
        if name is None:
            preset = bench.TINY if interpret else bench.LLAMA_1B
            loaded = bench.random_model(preset, torch_dtype, place)
        else:
            loaded = bench.load(name, torch_dtype, place)
        # Compiling for the CPU would say nothing of a GPU.
        made = bench.modes(loaded, [one for one in chosen if not interpret or one != "compile"])
    except ImportError as error:
        raise _fail(f"bench model needs transformers: pip install transformers ({error})") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise _fail(str(error)) from None
    new_cache = bench.cache_maker(loaded, sizes.prompt + sizes.new_tokens)
    generator = torch.Generator(place).manual_seed(seed)
    shape = (sizes.batch, sizes.prompt)
    ids = torch.randint(loaded.config.vocab_size, shape, generator=generator, device=place)
    exact = torch.float64 if torch_dtype == torch.float32 else torch.float32
    try:
        errors = bench.judged(loaded, made, ids, new_cache, exact)
    except torch.cuda.OutOfMemoryError:
        errors = {}
        _err.print("Not compared with a wider dtype: a copy of the model does not fit in memory.")
    checks = [
        _model_check(one, type(loaded).__name__, str(torch_dtype), error)
        for one, error in errors.items()
    ]
    environment = output.environment(seed, device) | {
        "model": name or type(loaded).__name__,
        "parameters": sum(parameter.numel() for parameter in loaded.parameters()),
    }
    rows: list[BenchRow] = []
    failed = [check for check in checks if check.op == "fused" and check.failure]
    if device is not None and not failed:
        from warpspan.kernels.bench.fused import Run

        with Run("bench model", device) as trace:
            start_ns = time.time_ns()
            rows = bench.run(
                made,
                sizes,
                device,
                new_cache,
                dtype=torch_dtype,
                generator=generator,
                rounds=rounds,
                errors=errors,
            )
            trace.add(rows, start_ns)
    _show(checks, rows, interpret=interpret)
    _write(json_path, output.save_json, checks, rows, environment)
    _write(csv_path, output.save_csv, rows)
    _exit_on(failed)


def _model_check(mode: str, model: str, dtype: str, error: Error) -> Check:
    from warpspan.kernels.bench.correctness import Check

    dtype = dtype.removeprefix("torch.")
    if error.failure:
        return Check(mode, f"{model} random", dtype, None, None, error.failure)
    return Check(mode, f"{model} random", dtype, error.largest, error.ratio, None)


def _check_files(paths: Sequence[Path | None], *, plots: Path | None) -> None:
    """Before minutes of measuring: can the files be written, and is there what draws plots."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise _fail(f"{path} can't be written: {path.absolute().parent} is no directory.")
    if plots is not None and importlib.util.find_spec("matplotlib") is None:
        from warpspan.kernels.bench.plots import MISSING

        raise _fail(MISSING)


def _torch(no_gpu: str, *, interpret: bool) -> tuple[Any, BenchDevice | None]:
    """torch, and the GPU or None to interpret; gradients are off from here on."""
    try:
        import torch
    except ImportError:
        raise _fail(NO_TORCH) from None
    if not interpret and not torch.cuda.is_available():
        raise _fail(no_gpu)
    try:
        import triton  # noqa: F401
    except ImportError:
        raise _fail(NO_TRITON) from None
    torch.set_grad_enabled(False)
    if interpret:
        return torch, None
    from warpspan.kernels.bench.cuda import CudaDevice

    return torch, CudaDevice()


def _seeded(seed: int | None) -> int:
    return int.from_bytes(os.urandom(4), "big") if seed is None else seed


def _exit_on(failed: list[Check]) -> None:
    for check in failed:
        _fail(f"FAILED {check.op} {check.dtype} {check.case}: {check.failure}")
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
        disable=not _err.is_terminal,
    )


def _checked(
    loaded: list[Op], dtypes: list[Any], seed: int, device: BenchDevice | None
) -> list[Check]:
    import torch

    from warpspan.kernels.bench import fused as suite

    generator = torch.Generator(device.torch_device if device else "cpu").manual_seed(seed)
    checks: list[Check] = []
    with _progress() as progress:
        task = progress.add_task("checking", total=len(loaded) * len(dtypes))
        for one in loaded:
            for dtype in dtypes:
                progress.update(task, description=f"checking {one.name}")
                checks += suite.check(one, dtype, generator, interpreted=device is None)
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
    device: BenchDevice,
) -> list[BenchRow]:
    import torch

    from warpspan.kernels.bench import cuda
    from warpspan.kernels.bench import fused as suite

    ceiling = suite.Ceiling(2 * cuda.COPY_BYTES, cuda.datasheet_bandwidth(device.name))
    generator = torch.Generator(device.torch_device).manual_seed(seed)
    cases = [(one, dims, dtype) for one in loaded for dtype in dtypes for dims in sizes[one.name]]
    rows: list[BenchRow] = []
    with suite.Run("bench fused", device) as run, _progress() as progress:
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


def _show(checks: list[Check], rows: list[BenchRow], *, interpret: bool) -> None:
    from warpspan.kernels.bench import table

    if not _out.is_terminal:
        _out.width = max(_out.width, FILE_WIDTH)
    _out.print(table.checks_table(checks, _out))
    if interpret:
        _out.print("Not timed: the kernels ran in Triton's interpreter on the CPU.")
    for one in table.tables(rows, _out):
        _out.print(one)


def _write(path: Path | None, save: Callable[..., None], *values: Any) -> None:
    """Save to a path that was asked for.

    Raises:
        typer.Exit: it can't be written, or matplotlib is missing.
    """
    from warpspan.kernels.bench.plots import MissingMatplotlibError

    if path is None:
        return
    try:
        save(path, *values)
    except MissingMatplotlibError as error:
        raise _fail(str(error)) from None
    except OSError as error:
        raise _fail(f"{path} can't be written: {error.strerror}.") from None


if __name__ == "__main__":
    sys.exit(app())
