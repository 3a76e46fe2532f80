"""The environment variables of warpspan, listed by `opentelemetry-instrument --help`."""

OTEL_PYTHON_WARPSPAN_TRAINING = "OTEL_PYTHON_WARPSPAN_TRAINING"
"""`true` also records module calls in training mode with gradients on. Default `false`."""

OTEL_PYTHON_WARPSPAN_PARAMETERLESS = "OTEL_PYTHON_WARPSPAN_PARAMETERLESS"
"""`true` also records outermost modules without parameters and buffers. Default `false`."""

OTEL_PYTHON_WARPSPAN_EXCLUDED_MODELS = "OTEL_PYTHON_WARPSPAN_EXCLUDED_MODELS"
"""Comma-separated patterns of model class names that are not recorded. Default none."""

OTEL_PYTHON_WARPSPAN_MEMORY = "OTEL_PYTHON_WARPSPAN_MEMORY"
"""`false` leaves the allocator's counters alone and memory off the spans. Default `true`."""

OTEL_PYTHON_WARPSPAN_TRANSFERS = "OTEL_PYTHON_WARPSPAN_TRANSFERS"
"""`false` leaves tensors' methods alone and waits and transfers off the spans. Default `true`."""

OTEL_PYTHON_WARPSPAN_QUEUE_SIZE = "OTEL_PYTHON_WARPSPAN_QUEUE_SIZE"
"""Inferences that may wait for their device time and export; more are dropped. Default 4096."""

OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT = "OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT"
"""Seconds that the end of the process may wait for inferences in flight. Default 5."""

OTEL_PYTHON_WARPSPAN_SAMPLE_PERIOD = "OTEL_PYTHON_WARPSPAN_SAMPLE_PERIOD"
"""Seconds between two samples of a GPU's counters while inferences run; 0 takes none. Default 0.2."""

OTEL_PYTHON_WARPSPAN_HARDWARE_METRICS = "OTEL_PYTHON_WARPSPAN_HARDWARE_METRICS"
"""`on` exports the `hw.*` metrics of the GPUs in use, `off` does not, `auto` does unless a variable \
of the environment names a dcgm-exporter. Default `auto`."""

OTEL_PYTHON_WARPSPAN_STEPS = "OTEL_PYTHON_WARPSPAN_STEPS"
"""How the steps of an inference are told: `summary` in its attributes only, `events` also one by one \
in an event of its span, `spans` also as child spans. Default `summary`."""

OTEL_PYTHON_WARPSPAN_FILE = "OTEL_PYTHON_WARPSPAN_FILE"
"""The file that the exporter `warpspan_file` appends to, which `warpspan run` sets. No default."""

OTEL_PYTHON_WARPSPAN_EXPORT_HELPER = "OTEL_PYTHON_WARPSPAN_EXPORT_HELPER"
"""`false` runs the official exporters of `warpspan_otlp` and `warpspan_file` in this process. Default `true`."""

OTEL_PYTHON_WARPSPAN_GC_FREEZE = "OTEL_PYTHON_WARPSPAN_GC_FREEZE"
"""`true` takes what lives once a model is warm out of garbage collection. Default `false`."""
