"""Every code block of the documents runs as it is written, from the built wheel."""

from __future__ import annotations

import re

import pytest
from documents import blocks

from warpspan.testing.otlp import grpc_receiver, http_receiver

BLOCKS = blocks()

# Languages that no user runs, and those that another suite runs.
NOT_RUN_HERE = {
    "text": "output and drawings",
    "jaeger": "tests/backends ask the real Jaeger",
    "promql": "tests/backends ask the real Prometheus",
    "traceql": "tests/backends ask the real Tempo",
}

# Blocks that can't run here, each with the reason.
EXCEPTED = {
    (
        "README.md",
        "make demo    # a real service under load, on a laptop without a GPU; needs Python ≥ 3.10 and make",
    ): "commands of the checkout, which make an environment of their own: .ci/run runs them",
    (
        "docs/device.md",
        "warpspan top            # the GPUs and the instrumented processes on them, live",
    ): "needs a GPU",
    ("docs/fused.md", "warpspan bench fused --json fused.json --html fused.html"): "needs a GPU",
    ("examples/README.md", "warpspan run -- python examples/input_bound.py"): "needs a GPU",
}

# What a reader of a Python block has already, by document.
MODEL = """
import time, torch
model = torch.nn.Linear(4, 4).eval()
"""
BEFORE = {
    "docs/configuration.md": f"""{MODEL}
from opentelemetry.sdk.trace import TracerProvider
my_provider = TracerProvider()
batch = torch.zeros(2, 4)
compiled_rerank = model
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


def runnable(language):
    """The blocks of a language that are not excepted."""
    chosen = [one for one in BLOCKS if one.language == language and one.key not in EXCEPTED]
    return pytest.mark.parametrize(
        "block", chosen, ids=[f"{one.document}:{one.line}" for one in chosen]
    )


def test_each_block_is_run_or_named():
    """A block without a language, or in one that nobody runs, is named here with its reason."""
    known = {"sh", "python", *NOT_RUN_HERE}
    assert [] == [f"{one.document}:{one.line}" for one in BLOCKS if one.language not in known]


def test_no_exception_is_left_over():
    """What is excepted is still in the documents."""
    assert set() == set(EXCEPTED) - {one.key for one in BLOCKS}


@pytest.fixture
def environment(request, block):
    """The smallest one that the document asks for."""
    full = block.document in ("examples/README.md", "docs/fused.md")
    return request.getfixturevalue("for_examples" if full else "with_torch")


@pytest.fixture
def backend(block):
    """Who listens where the block sends to: on the real port of its protocol in real life."""
    receiver = http_receiver if "http/protobuf" in block.text else grpc_receiver
    with receiver() as started:
        yield started


@pytest.fixture
def run(environment, backend, here, block):
    """Runs a file with a text by an interpreter, with the backend's address."""

    def start(interpreter, name, text):
        (here / name).write_text(text, encoding="utf-8")
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint}
        return environment.run(*interpreter, name, cwd=here, environ=environ)

    return start


@runnable("sh")
def test_shell(block, run, backend):
    """The commands end well, one after the other, and inferences are with the backend."""
    done = run(("bash", "-eu"), "block.sh", block.text)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    programs = len(re.findall("opentelemetry-instrument python app.py", block.text))
    assert ["forward Classifier"] * 3 * programs == backend.span_names()


@runnable("python")
def test_python(block, run):
    """The sample runs where the reader's own names are there."""
    done = run(("python",), "block.py", f"{BEFORE.get(block.document, '')}\n{block.text}")
    assert (0, "") == (done.returncode, done.stderr), done.stdout
