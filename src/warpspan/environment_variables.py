"""The environment variables of warpspan, listed by `opentelemetry-instrument --help`.

Written from config.py by `make signals`.
"""

OTEL_PYTHON_WARPSPAN_TRAINING = "OTEL_PYTHON_WARPSPAN_TRAINING"
"""Also record module calls in training mode with gradients on. Give true or false; default `false`."""

OTEL_PYTHON_WARPSPAN_PARAMETERLESS = "OTEL_PYTHON_WARPSPAN_PARAMETERLESS"
"""Also record outermost modules without parameters and buffers. Give true or false; default `false`."""

OTEL_PYTHON_WARPSPAN_EXCLUDED_MODELS = "OTEL_PYTHON_WARPSPAN_EXCLUDED_MODELS"
"""Model classes that are not recorded, such as `Tiny*,Reranker`. Give class names or patterns, separated by commas; default none."""

OTEL_PYTHON_WARPSPAN_ENTRY_POINTS = "OTEL_PYTHON_WARPSPAN_ENTRY_POINTS"
"""Methods and functions each call of which is one inference, such as `package.module:Class.method,package.module:function`. Give names such as package.module:Class.method, separated by commas; default none."""

OTEL_PYTHON_WARPSPAN_METHODS = "OTEL_PYTHON_WARPSPAN_METHODS"
"""Record a method that calls parts of its own module, such as `model.encode_text(x)`, as one inference; `false` records each part. Give true or false; default `true`."""

OTEL_PYTHON_WARPSPAN_MEMORY = "OTEL_PYTHON_WARPSPAN_MEMORY"
"""Read the allocator's counters around each inference. Give true or false; default `true`."""

OTEL_PYTHON_WARPSPAN_TRANSFERS = "OTEL_PYTHON_WARPSPAN_TRANSFERS"
"""Record waits for a CUDA device and copies to and from it; `false` leaves the methods of tensors alone. Give true or false; default `true`."""

OTEL_PYTHON_WARPSPAN_QUEUE_SIZE = "OTEL_PYTHON_WARPSPAN_QUEUE_SIZE"
"""Inferences that may wait for their device time and export; further ones are dropped and counted in `warpspan.dropped`. Give a whole number from 16 to 1000000; default `4096`."""

OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT = "OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT"
"""Longest wait at the end of the process for inferences in flight, and then for the backend. Give seconds from 0 to 3600; default `5`."""

OTEL_PYTHON_WARPSPAN_GC_FREEZE = "OTEL_PYTHON_WARPSPAN_GC_FREEZE"
"""Once a model is warm, exclude all living objects from garbage collection. Give true or false; default `false`."""

OTEL_PYTHON_WARPSPAN_SAMPLE_PERIOD = "OTEL_PYTHON_WARPSPAN_SAMPLE_PERIOD"
"""Time between two samples of a GPU's counters while inferences run. Give seconds from 0.1 to 10, or 0 for none; default `0.2`."""

OTEL_PYTHON_WARPSPAN_HARDWARE_METRICS = "OTEL_PYTHON_WARPSPAN_HARDWARE_METRICS"
"""Export the `hw.*` metrics of the GPUs in use; `auto` exports them unless an environment variable names a dcgm-exporter. Give auto, on or off; default `auto`."""

OTEL_PYTHON_WARPSPAN_STEPS = "OTEL_PYTHON_WARPSPAN_STEPS"
"""How the steps of an inference are recorded: `summary` in its attributes only, `events` also one by one in an event of its span, `spans` also as child spans of the first 128. Give summary, events or spans; default `summary`."""

OTEL_PYTHON_WARPSPAN_DEEP = "OTEL_PYTHON_WARPSPAN_DEEP"
"""Profile some inferences: a share of them, so many in each period or at the begin of the process, or those after a `slow` one. Give off, a share such as 0.001, a count such as 5/60s or 20/run, or slow; default none."""

OTEL_PYTHON_WARPSPAN_DEEP_DIRECTORY = "OTEL_PYTHON_WARPSPAN_DEEP_DIRECTORY"
"""Keep the traces of profiled inferences in this directory. Give a path; default none."""

OTEL_PYTHON_WARPSPAN_DEEP_SIGNAL = "OTEL_PYTHON_WARPSPAN_DEEP_SIGNAL"
"""A signal after which the next inferences are profiled. Give off, SIGUSR1 or SIGUSR2; default none."""

OTEL_PYTHON_WARPSPAN_DEEP_OPERATORS = "OTEL_PYTHON_WARPSPAN_DEEP_OPERATORS"
"""Also profile operators and the shapes of their inputs, which each operator pays for; `warpspan profile` sets it. Give true or false; default `false`."""

OTEL_PYTHON_WARPSPAN_FILE = "OTEL_PYTHON_WARPSPAN_FILE"
"""The file that the exporter `warpspan_file` appends to; `warpspan run` sets it. Give a path; default none."""

OTEL_PYTHON_WARPSPAN_FILE_LIMIT = "OTEL_PYTHON_WARPSPAN_FILE_LIMIT"
"""Size from which on nothing more is written to that file. Give a whole number of MiB, or 0 for none; default `1024`."""

OTEL_PYTHON_WARPSPAN_EXPORT_HELPER = "OTEL_PYTHON_WARPSPAN_EXPORT_HELPER"
"""`false` runs the official exporters behind `warpspan_otlp` and `warpspan_file` in this process instead of a helper. Give true or false; default `true`."""
