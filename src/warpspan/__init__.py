"""What each PyTorch inference cost the GPU, on the OpenTelemetry span of that inference."""

__version__ = "0.1.0"

from warpspan.api import capture, flush, inference, profile, step
from warpspan.instrumentor import WarpspanInstrumentor

__all__ = [
    "WarpspanInstrumentor",
    "__version__",
    "capture",
    "flush",
    "inference",
    "profile",
    "step",
]
