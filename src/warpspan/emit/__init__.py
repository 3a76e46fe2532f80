"""Records become spans and metric points: the only room that uses OpenTelemetry providers."""
