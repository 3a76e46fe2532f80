"""What each PyTorch inference cost the GPU, on the OpenTelemetry span of that inference."""

__version__ = "0.1.0"
