"""How long an inference can be held up by telemetry."""
