"""Records become spans and metric points: only this package uses OpenTelemetry providers."""
