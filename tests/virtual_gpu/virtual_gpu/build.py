"""Builds the virtual GPU for the torch of this Python, once, into the user's cache.

A build's key is made of torch's version and of the sources, so that nothing old is ever used.
Takes about 15 s, needs Linux on x86-64, g++ and nm, and the CUDA build of torch, whose libraries
are read for the names that they import.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve()
SOURCES = HERE.parent.parent / "device"
VALUES_SOURCE = HERE.parent.parent / "values" / "values.cpp"
FAKE_NVML = HERE.parents[2] / "device" / "fake_nvml.c"
CACHE = Path(
    os.environ.get("WARPSPAN_VIRTUAL_GPU")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "warpspan", "virtual_gpu")
)
TOOLS = ("g++", "gcc", "nm")
LIBRARY = "libvirtual_gpu.so"
NVML = "libnvidia-ml.so.1"
VALUES = "libvirtual_gpu_values.so"
# What is replaced as a whole, by the name that torch's libraries are linked against.
REPLACED = re.compile(r"lib(cudart|cublas|cublasLt|cudnn|cufft|cusolver|nvrtc)\.so\.\d+")
# Functions of those, and of the driver (not `cuda…`, `cudnn…`, `cusparse…`).
NAMES = re.compile(r"(__)?cuda[A-Z]|cublas|cudnn|cufft|cusolver|nvrtc|cu[A-Z](?!da)")
# What a function that is not there answers: CUDA's, cuBLAS' and cuDNN's own "not supported".
NOT_SUPPORTED = {"cubl": 15, "cudn": 3000}


class UnbuildableError(Exception):
    """Why the virtual GPU can't be built here."""


class Torch(NamedTuple):
    """What is built for."""

    site: Path  # the folder that holds torch and NVIDIA's packages
    version: str
    cuda: int  # as cudaRuntimeGetVersion gives it
    cudnn: int

    @classmethod
    def here(cls) -> Torch:
        """The one of this Python, without importing it."""
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            raise UnbuildableError("it is built for Linux on x86-64 alone")
        if lacking := [tool for tool in TOOLS if shutil.which(tool) is None]:
            raise UnbuildableError(f"{', '.join(lacking)} is missing")
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            raise UnbuildableError("torch is not installed")
        folder = Path(spec.origin).parent
        facts: dict[str, str | None] = {}
        exec((folder / "version.py").read_text(encoding="utf-8"), facts)
        cuda = facts["cuda"]
        if cuda is None:
            raise UnbuildableError(f"torch {facts['__version__']} is not the CUDA build")
        major, minor = map(int, cuda.split("."))
        found = next(folder.parent.glob("nvidia_cudnn_cu*.dist-info"), None)
        parts = [*map(int, found.name.split("-")[1].split(".")[:3])] if found else [9, 0, 0]
        return cls(
            site=folder.parent,
            version=str(facts["__version__"]),
            cuda=1000 * major + 10 * minor,
            cudnn=10000 * parts[0] + 100 * parts[1] + parts[2],
        )

    def libraries(self) -> tuple[list[str], list[Path]]:
        """The names of those that are replaced, and the files of all others that use them."""
        replaced, others = [], []
        for file in sorted(
            [*self.site.glob("nvidia/*/lib/*.so*"), *self.site.glob("torch/lib/*.so*")]
        ):
            if REPLACED.fullmatch(file.name):
                replaced.append(file.name)
            elif not file.name.startswith(("libcudnn", "libcusolver", "libcufft", "libnvrtc")):
                others.append(file)
        return replaced, others


def names(option: str, *files: Path) -> set[str]:
    """The symbols of libraries or objects that are defined there, or that they import."""
    listed = subprocess.run(
        ["nm", *(["-D"] if files[0].suffix != ".o" else []), option, *map(str, files)],
        capture_output=True,
        text=True,
    ).stdout
    words = (line.split() for line in listed.splitlines())
    return {found[-1].split("@")[0] for found in words if len(found) > 1}


def stub(name: str) -> str:
    """A function that only says, once, that it is not there, or takes time as its kind does."""
    if name.startswith("cublas") and not re.search("Lt|Matrix|Vector", name):
        if "gemm" in name.lower():
            return (
                f"API int {name}(void *handle, int, int, int m, int n, int k) "
                f'{{ return virtual_gpu_gemm(handle, "{name}", m, n, k); }}'
            )
        return f'API int {name}(void *handle) {{ return virtual_gpu_blas(handle, "{name}"); }}'
    if name.startswith("cusolverDn") and not re.search("ufferSize|Create|Destroy|Set", name):
        return f'API int {name}(void *handle) {{ return virtual_gpu_solver(handle, "{name}"); }}'
    if re.fullmatch(r"cudnnCreate\w+Descriptor", name):
        return f"API int {name}(void **out) {{ *out = calloc(1, 64); return 0; }}"
    if re.fullmatch(r"cudnnDestroy\w+", name):
        return f"API int {name}(void *it) {{ free(it); return 0; }}"
    if re.fullmatch(r"cudnnSet(Tensor|Filter|Convolution)\w*Descriptor\w*|cudnnDeriveBN\w+", name):
        return f"API int {name}() {{ return 0; }}"
    if name.startswith("cudnnBatchNormalizationForward"):
        return f'API int {name}(void *handle) {{ return virtual_gpu_dnn(handle, "{name}"); }}'
    return f'API int {name}() {{ return absent("{name}", {NOT_SUPPORTED.get(name[:4], 801)}); }}'


STUBS = """\
// Generated: what torch imports and the virtual GPU does not have.
#include <cstdio>
#include <cstdlib>
#include "device.h"

API int virtual_gpu_blas(void *, const char *);
API int virtual_gpu_gemm(void *, const char *, int, int, int);
API int virtual_gpu_dnn(void *, const char *);
API int virtual_gpu_solver(void *, const char *);
static int absent(const char *name, int error) {
  if (!vgpu::called(name) && vgpu::state().calls[name] == 1)
    fprintf(stderr, "virtual GPU: %s is not there\\n", name);
  return error;
}
"""


def compile_all(torch: Torch, out: Path) -> None:
    """Everything, into a folder."""

    def run(*command: str | Path) -> None:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        if done.returncode:
            raise UnbuildableError(f"{command[0]} failed:\n{done.stderr}")

    flags = ["-std=c++17", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
    flags += [f"-DCUDART={torch.cuda}", f"-DCUDNN={torch.cudnn}", f"-I{SOURCES}"]

    def compiled(source: Path) -> Path:
        made = out / f"{source.stem}.o"
        run("g++", *flags, "-c", source, "-o", made)
        return made

    def compile_values() -> None:
        """Against torch's own headers, unlike all else."""
        package = torch.site / "torch"
        abi = any(
            re.match("_ZN3c10.*__cxx11", name)
            for name in names("--defined-only", package / "lib/libc10.so")
        )
        run(
            *("g++", "-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-shared"),
            *(f"-D_GLIBCXX_USE_CXX11_ABI={int(abi)}", f"-isystem{package / 'include'}"),
            *(VALUES_SOURCE, "-o", out / VALUES, f"-L{package / 'lib'}", "-ltorch_cpu", "-lc10"),
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        values = pool.submit(compile_values)
        objects = list(pool.map(compiled, sorted(SOURCES.glob("*.cpp"))))
        values.result()
    replaced, others = torch.libraries()
    wanted = {name for name in names("--undefined-only", *others) if NAMES.match(name)}
    missing = wanted - names("--defined-only", *others) - names("--defined-only", *objects)
    stubs = out / "stubs.cpp"
    stubs.write_text(STUBS + "".join(f"{stub(name)}\n" for name in sorted(missing)))
    objects.append(compiled(stubs))
    run(
        "g++",
        "-shared",
        *objects,
        "-o",
        out / LIBRARY,
        f"-Wl,-soname,{LIBRARY}",
        "-lpthread",
        "-ldl",
    )
    for soname in [*replaced, "libcuda.so.1"]:  # empty: they only bring in the library
        run(
            *("gcc", "-shared", "-x", "c", "/dev/null", "-o", out / soname),
            *(f"-Wl,-soname,{soname}", "-Wl,--no-as-needed", f"-L{out}", "-lvirtual_gpu"),
            "-Wl,-rpath,$ORIGIN",
        )
    run(
        *("gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"),
        *(FAKE_NVML, SOURCES / "nvml_extra.c", "-o", out / NVML, f"-Wl,-soname,{NVML}"),
        "-lpthread",
    )
    for file in [*objects, stubs]:
        file.unlink()


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One build at a time."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build() -> Path:
    """The folder with the libraries, built now where it is not there yet.

    Raises:
        UnbuildableError: it can't be built here; the message says why.
    """
    torch = Torch.here()
    content = hashlib.sha256(repr(torch[1:]).encode())
    for file in sorted([*SOURCES.iterdir(), VALUES_SOURCE, HERE, FAKE_NVML]):
        content.update(file.read_bytes())
    folder = CACHE / f"torch-{torch.version}-{content.hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with alone(CACHE / "lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                compile_all(torch, made)
                made.rename(folder)
    return folder
