"""What holds for every fused operation: right, registered, inference only, counted."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from warpspan.kernels.bench import fused as suite
from warpspan.kernels.bench.correctness import cases, check, compare
from warpspan.kernels.bench.op import mapped, tensors
from warpspan.kernels.bench.ops import FILES, load

SOURCES = Path(__file__).resolve().parents[2] / "src/warpspan/kernels"
COMPOSED = ("decoder_block",)  # of several registered operations, itself none
SINGLE = [name for name in FILES if name not in COMPOSED]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def small(name, generator, dtype=torch.float32):
    op = load(name)
    return op, op.build(op.checked[1], dtype, generator)


def module(name):
    return importlib.import_module(f"warpspan.kernels.{FILES[name]}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FILES)
def test_it_is_as_right_as_eager_in_every_case(name, dtype, generator, device):
    """Odd sizes, no rows, strides, large, tiny, NaN and infinite values, poisoned outputs."""
    op = load(name)
    interpreted = device.type == "cpu"
    checks = list(suite.check(op, dtype, generator, interpreted=interpreted))
    assert [] == [one for one in checks if one.failure]
    if interpreted and op.uses_dot and dtype == torch.bfloat16:
        assert [] == checks  # the interpreter's tl.dot reads bfloat16 as integers
    else:
        assert len(op.checked) + 8 == len(checks)


@pytest.mark.parametrize("name", SINGLE)
def test_it_is_registered_as_torch_wants_it(name, generator):
    """opcheck: schema, fake tensors, autograd registration and dynamic shapes."""
    op, arguments = small(name, generator)
    called = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "warpspan":
                called.append((func, args, kwargs or {}))
            return func(*args, **(kwargs or {}))

    with Spy():
        op.fused(*arguments)
    ((func, args, kwargs),) = called
    torch.library.opcheck(func, args, kwargs)


@pytest.mark.parametrize("name", FILES)
def test_it_compiles_without_a_graph_break(name, generator):
    """torch.compile(fullgraph=True) gives what the plain call gives."""
    op, arguments = small(name, generator)
    copies = mapped(torch.clone, arguments)
    torch.compiler.reset()
    # The graph as Dynamo and AOTAutograd make it; generating code for a CPU would prove no more.
    compiled = torch.compile(op.fused, fullgraph=True, backend="aot_eager")
    results = zip(tensors(compiled(*copies)), tensors(op.fused(*arguments)), strict=True)
    assert all(torch.equal(ours, plain) for ours, plain in results)


@pytest.mark.parametrize("name", FILES)
def test_it_refuses_to_be_trained(name, generator):
    """Where a gradient would be needed, one sentence says what to do."""
    op, arguments = small(name, generator)
    first = arguments[0].requires_grad_()
    with torch.enable_grad(), pytest.raises(RuntimeError, match=r"torch\.inference_mode"):
        op.fused(first, *arguments[1:])


@pytest.mark.parametrize("name", FILES)
def test_it_serves_in_inference_mode_with_parameters(name, generator):
    """Parameters that could be trained do not matter where gradients are off."""
    op, arguments = small(name, generator)
    with torch.inference_mode():
        assert tensors(op.fused(torch.nn.Parameter(arguments[0]), *arguments[1:]))


class Counter:
    """Distinct bytes that a kernel loads from and stores to given tensors, in the interpreter."""

    def __init__(self, monkeypatch):
        from triton.runtime import interpreter

        self.loaded, self.stored = [], []
        builder = interpreter.interpreter_builder
        load_, store = builder.create_masked_load, builder.create_masked_store

        def counting_load(ptrs, mask, *rest):
            self.loaded.append((ptrs.data[mask.data], ptrs.get_element_ty().primitive_bitwidth))
            return load_(ptrs, mask, *rest)

        def counting_store(ptrs, value, mask, *rest):
            self.stored.append((ptrs.data[mask.data], ptrs.get_element_ty().primitive_bitwidth))
            return store(ptrs, value, mask, *rest)

        monkeypatch.setattr(builder, "create_masked_load", counting_load)
        monkeypatch.setattr(builder, "create_masked_store", counting_store)

    def moved(self, read, written):
        """Bytes loaded at least once from `read`, and stored at least once to `written`."""
        return self._distinct(self.loaded, read) + self._distinct(self.stored, written)

    @staticmethod
    def _distinct(accesses, of):
        addresses = {
            (int(address), bits // 8) for pointers, bits in accesses for address in pointers.flat
        }
        ranges = [(t.data_ptr(), t.data_ptr() + t.untyped_storage().nbytes()) for t in of]
        return sum(
            size
            for address, size in addresses
            if any(start <= address < end for start, end in ranges)
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts in Triton's interpreter")
@pytest.mark.parametrize("name", SINGLE)
def test_its_cost_is_what_it_loads_and_stores(name, generator, monkeypatch):
    """cost() in bytes equals the distinct bytes of inputs loaded and of outputs stored."""
    op, arguments = small(name, generator)
    counter = Counter(monkeypatch)
    outputs = op.fused(*arguments)
    assert op.cost(*arguments)[0] == counter.moved(tensors(arguments), tensors(outputs))


def test_its_file_can_be_lifted_out(tmp_path):
    """Each file runs by itself, beside nothing of ours; the block with the four that it names."""
    for source in SOURCES.glob("*.py"):
        if source.name not in ("__init__.py", "swap.py", "decoder_block.py"):
            shutil.copy(source, tmp_path / f"lifted_{source.name}")
    block = tmp_path / "block"
    block.mkdir()
    for name in ("decoder_block", "add_rms_norm", "decode_attention", "rope", "swiglu"):
        shutil.copy(SOURCES / f"{name}.py", block)
    program = "\n".join(
        [
            "import sys, torch",
            "torch.set_grad_enabled(False)",
            "device = 'cuda' if torch.cuda.is_available() else 'cpu'",
            "import lifted_add_layer_norm, lifted_bias_gelu, lifted_softmax",
            "import lifted_top_k_softmax, lifted_w8a16_linear",
            "import block.decoder_block",
            "x = torch.randn(3, 5, device=device)",
            "assert torch.allclose(lifted_softmax.softmax(x), torch.softmax(x, -1), atol=1e-6)",
            "assert not any(name.startswith('warpspan') for name in sys.modules)",
        ]
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (0, "") == (run.returncode, run.stderr)


@pytest.mark.gpu
@pytest.mark.parametrize("name", FILES)
def test_a_cuda_graph_replays_it(name, generator):
    """A replay reads new inputs and gives what a plain call gives."""
    op, arguments = small(name, generator, torch.float16)
    op.fused(*mapped(torch.clone, arguments))  # compiles and tunes outside the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = op.fused(*arguments)
    fresh = op.build(op.checked[1], torch.float16, generator)
    for held, new in zip(tensors(arguments), tensors(fresh), strict=True):
        held.copy_(new)
    expected = op.fused(*mapped(torch.clone, arguments))
    graph.replay()
    torch.cuda.synchronize()
    pairs = zip(tensors(expected), tensors(outputs), strict=True)
    assert all(torch.equal(plain, replayed) for plain, replayed in pairs)


# Just over 2**31 elements in one tensor: offsets must be 64 bits wide.
LARGE = {
    "add_rms_norm": {"M": 2**19 + 3, "H": 4096},
    "add_layer_norm": {"M": 2**19 + 3, "H": 4096},
    "swiglu": {"M": 2**18 + 3, "I": 8192},
    "rope": {"B": 1, "S": 2**19 + 3, "Hq": 32, "Hk": 1, "D": 128},
    "bias_gelu": {"M": 2**19 + 3, "I": 4096},
    "softmax": {"M": 2**19 + 3, "N": 4096},
    "top_k_softmax": {"M": 2**14 + 3, "V": 131072, "k": 8},
    "w8a16_linear": {"M": 2**16 + 3, "K": 64, "N": 32768},
    "decode_attention": {"B": 17, "S": 2**20, "Hq": 8, "Hk": 1, "D": 128},
    "paged_decode_attention": {"B": 17, "S": 2**20, "Hq": 8, "Hk": 1, "D": 128, "page": 16},
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", LARGE)
def test_offsets_beyond_32_bits_are_right(name, generator):
    """The last rows of more than 2**31 elements are those of a small tensor with the same rows."""
    op = load(name)
    arguments = op.build(LARGE[name], torch.float16, generator)
    # Batched operations are compared by their last sequence, the others by their last two rows.
    last = slice(-1, None) if "B" in LARGE[name] and LARGE[name]["B"] > 1 else slice(-2, None)
    axis = 2 if name == "rope" else 0
    outputs = tensors(op.fused(*arguments))
    few = list(arguments)
    batched = {"add_rms_norm": 2, "add_layer_norm": 2, "swiglu": 2, "rope": 2}.get(name, 1)
    for place in range(batched):
        few[place] = arguments[place].movedim(axis, 0)[last].movedim(0, axis)
    if name == "rope":
        few[2:] = [table[:, last] for table in arguments[2:]]
    if name == "decode_attention":
        few[1:] = [one[last] for one in arguments[1:]]
    if name == "paged_decode_attention":
        few[3:] = [one[last] for one in arguments[3:]]
    expected = tensors(op.fused(*few))
    for whole, part in zip(outputs, expected, strict=True):
        assert torch.allclose(
            whole.movedim(axis, 0)[last].movedim(0, axis), part, rtol=2e-3, atol=2e-3
        )


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FILES)
def test_a_timed_size_is_as_right_as_eager(name, dtype, generator):
    """The first decode and the first larger size of the benchmark pass the rule too."""
    op = load(name)
    for dims in op.timed[:2]:
        arguments = op.build(dims, dtype, generator)
        assert None is check(op, op.fused, arguments, "timed").failure


def test_every_case_is_a_case():
    """The list of cases is as long as its parts, for no operation is one left out silently."""
    op = load("softmax")
    found = [case for case, _ in cases(op, torch.float32, torch.Generator().manual_seed(0))]
    assert len(set(found)) == len(found)
    assert None is compare(torch.ones(1), torch.ones(1), torch.ones(1).double()).failure
