"""Every code block of the documents runs as it is written, from the built wheel."""

from __future__ import annotations

import re

import pytest
from documents import blocks

from tests.support.otlp import grpc_receiver, http_receiver

BLOCKS = blocks()

# Languages that no user runs, and those that another suite runs.
NOT_RUN_HERE = {
    "text": "output and drawings",
    "dockerfile": "needs a container engine",
    "yaml": "needs a cluster; tests/backends check the manifests of collector-config",
    "jaeger": "tests/backends ask the real Jaeger",
    "toml": "metadata of a distribution, which tests/hooks/test_contract.py installs",
    "promql": "tests/backends ask the real Prometheus",
    "traceql": "tests/backends ask the real Tempo",
}

# Blocks that can't run here, each with the reason.
EXCEPTED = {
    (
        "README.md",
        "make demo    # a real service under load, on a laptop without a GPU; needs Python ≥ 3.10 and make",
    ): "commands of the checkout, which make an environment of their own: .ci/run runs them",
    ("docs/fused.md", "warpspan bench fused --json fused.json --html fused.html"): "needs a GPU",
    (
        "docs/virtual_gpu.md",
        "make test-virtual-gpu    # torch 2.15; PYTHON=3.10 for torch 2.4",
    ): "commands of the checkout: .ci/run runs the tests",
    (
        "docs/virtual_gpu.md",
        "PYTHONPATH=tests/virtual_gpu python -m virtual_gpu --devices 2 -- python program.py",
    ): "a command of the checkout, which make test-virtual-gpu runs on the tests",
    ("examples/README.md", "warpspan run -- python examples/input_bound.py"): "needs a GPU",
}

# Documents whose blocks need more than warpspan and torch. They come last: the environment grows.
NEED_MORE = ("docs/fused.md", "examples/README.md")

# What a reader of a Python block has already, by document.
BEFORE = {
    "docs/configuration.md": """
import torch
from opentelemetry.sdk.trace import TracerProvider
my_provider = TracerProvider()
batch = torch.zeros(2, 4)
model = compiled_rerank = torch.nn.Linear(4, 4).eval()
""",
    "docs/fused.md": """
import os
os.environ["TRITON_INTERPRET"] = "1"  # the kernels on the CPU
import torch
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                     num_attention_heads=2, num_key_value_heads=1)
model = LlamaForCausalLM(config).eval()
inputs = {"input_ids": torch.ones(1, 2, dtype=torch.long), "max_new_tokens": 2,
          "attention_mask": torch.ones(1, 2, dtype=torch.long), "pad_token_id": 0}
x = residual = torch.ones(2, 32)
weight = torch.ones(32)
""",
    "docs/generate.md": """
import torch, warpspan
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
    def forward(self, tokens, cache):
        return self.linear(tokens), cache
class Countdown:
    left = 3
    def __bool__(self):
        self.left -= 1
        return self.left < 0
model, prompt, token, done = Model().eval(), torch.zeros(1, 4), torch.zeros(1, 4), Countdown()
warpspan.WarpspanInstrumentor().instrument()
""",
}


def test_each_block_is_run_or_named():
    """A block without a language, or in one that nobody runs, is named here with its reason."""
    known = {"sh", "python", *NOT_RUN_HERE}
    assert [] == [f"{one.document}:{one.line}" for one in BLOCKS if one.language not in known]


def test_no_exception_is_left_over():
    """What is excepted is still in the documents."""
    assert set() == set(EXCEPTED) - {one.key for one in BLOCKS}


CHOSEN = sorted(
    (one for one in BLOCKS if one.language in ("sh", "python") and one.key not in EXCEPTED),
    key=lambda one: one.document in NEED_MORE,
)


@pytest.mark.parametrize("block", CHOSEN, ids=[f"{one.document}:{one.line}" for one in CHOSEN])
def test_block(block, here, request):
    """It ends well and without a traceback, and its inferences are with the backend."""
    needed = "for_examples" if block.document in NEED_MORE else "with_torch"
    environment = request.getfixturevalue(needed)
    interpreter, before = ("bash", "-eu"), ""
    if block.language == "python":
        interpreter, before = ("python",), BEFORE.get(block.document, "")
    (here / "block").write_text(f"{before}\n{block.text}", encoding="utf-8")
    # For a user, both protocols have ports of their own on localhost.
    receiver = http_receiver if "http/protobuf" in block.text else grpc_receiver
    with receiver() as backend:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint}
        done = environment.run(*interpreter, "block", cwd=here, environ=environ)
        assert 0 == done.returncode, done.stdout + done.stderr
        assert not re.search("Traceback|warpspan.faults", done.stderr), done.stderr
        programs = len(re.findall("opentelemetry-instrument python app.py", block.text))
        doctors = len(re.findall("(?m)^warpspan doctor", block.text))  # each sends a test span
        expected = ["forward Classifier"] * 3 * programs + ["warpspan doctor"] * doctors
        assert expected == sorted(backend.span_names())
