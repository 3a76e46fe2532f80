"""Exporters for finished spans and metric points. Knows nothing of torch."""
