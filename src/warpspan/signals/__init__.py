"""Names of all attributes and metrics, written from registry.yaml by `make signals`."""
