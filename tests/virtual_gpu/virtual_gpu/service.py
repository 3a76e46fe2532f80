"""The example service with right values on the virtual GPU, for `make demo-gpu`.

Its own folder is on the path, as uvicorn's `--app-dir` puts it there.
"""

from virtual_gpu import values

values.on()

from app import app  # noqa: E402 - the model is loaded, and computed with, when it is imported

__all__ = ["app"]
