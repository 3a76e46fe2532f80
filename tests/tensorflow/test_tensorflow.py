"""Profiles that TensorFlow makes, from an environment that has it: `make test-tensorflow`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from warpspan.sources.traces import Head, read_trace
from warpspan.sources.xplane_schema import MESSAGES

PROGRAM = Path(__file__).resolve().parent / "programs" / "profiled.py"
PYTHON = os.environ.get("WARPSPAN_TENSORFLOW")

pytestmark = pytest.mark.skipif(
    PYTHON is None, reason="WARPSPAN_TENSORFLOW names no Python with TensorFlow"
)


@pytest.fixture
def profiled(tmp_path):
    """Runs the program and returns where its profile is."""

    def run(mode: str) -> Path:
        subprocess.run(
            [PYTHON, str(PROGRAM), mode, str(tmp_path)],
            check=True,
            timeout=300,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        (path,) = tmp_path.rglob("*.xplane.pb")
        return path

    return run


def read(path: Path):
    data = path.read_bytes()
    return read_trace(io.BytesIO(data), path.name, Head.of(data)).trace


def test_functions_are_inferences(profiled):
    """Each call of a `tf.function`, with the operators that its executor ran."""
    trace = read(profiled("functions"))

    found = [(one.inference.operation, one.inference.model.name) for one in trace.inferences]
    assert [("function", "<lambda>")] * 4 == found
    operators = {operator.name for one in trace.inferences for operator in one.operators}
    assert any(name.endswith("MatMul") for name in operators), operators
    assert (0, False, ()) == (trace.training_steps, trace.coverage.kernels, trace.devices)


def test_marked_steps_are_inferences(profiled):
    """By the name that the program gives them."""
    found = [one.inference.operation for one in read(profiled("steps")).inferences]

    assert ["infer"] * 4 == found


def test_training_is_no_inference(profiled):
    """Keras' `fit` computes gradients."""
    trace = read(profiled("fit"))

    assert (4, ()) == (trace.training_steps, trace.inferences)


def test_a_folder_of_tensorboard_is_reported(profiled):
    """Its profile lies some folders below."""
    folder = profiled("functions").parents[3]

    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from warpspan.cli import main; main()",
            "report",
            str(folder),
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    (row,) = json.loads(result.stdout)["rows"]
    assert ("function", "<lambda>", 4) == (row["operation"], row["model"], row["inference_count"])


def test_the_schema_is_the_one_that_tensorflow_compiled():
    """Every field that is read has the name, number and type that TensorFlow gives it."""
    script = (
        "import json\n"
        "from tensorflow.tsl.profiler.protobuf import xplane_pb2\n"
        "kinds = {3: 'int64', 4: 'uint64', 1: 'double', 9: 'string', 12: 'bytes'}\n"
        "def fields(message):\n"
        "    for field in message.fields:\n"
        "        kind = kinds.get(field.type) or field.message_type.name\n"
        "        yield [field.name, field.number, kind]\n"
        "file = xplane_pb2.DESCRIPTOR\n"
        "messages = dict(file.message_types_by_name)\n"
        "messages |= messages['XPlane'].nested_types_by_name\n"
        "print(json.dumps({name: list(fields(one)) for name, one in messages.items()}))\n"
    )
    result = subprocess.run(
        [PYTHON, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )
    published = json.loads(result.stdout)

    for message, fields in MESSAGES.items():
        for text in fields:
            *_, kind, name, _, number = text.split()
            assert [name, int(number), kind] in published[message]
