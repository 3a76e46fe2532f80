"""The GPUs of a process as attributes of its OpenTelemetry resource.

Used where it is asked for: `OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=warpspan`. Asks the driver, never
CUDA, so that a process may still fork afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.resources import Resource, ResourceDetector

from warpspan.config import environment
from warpspan.device import discovery, identity
from warpspan.device.driver import Driver, Gpu, Instance
from warpspan.signals import names


class WarpspanResourceDetector(ResourceDetector):
    """Detects the GPUs that CUDA shows to this process."""

    def detect(self) -> Resource:
        """Their ids, models, memory and MIG profiles, and the driver; empty without a GPU."""
        driver = discovery.open_driver()
        try:
            if not driver.open():
                return Resource.get_empty()
            return Resource(attributes(driver, environment()))
        finally:
            driver.close()


def attributes(driver: Driver, environ: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of the devices that CUDA shows, in its order where that is known."""
    gpus = driver.gpus()
    shown = identity.visible(gpus, environ.get(identity.VISIBLE), environ.get(identity.ORDER))
    by_id: dict[str | None, tuple[Gpu, Instance | None]] = {}
    for gpu in gpus:
        by_id[gpu.uuid] = (gpu, None)
        by_id.update({instance.uuid: (gpu, instance) for instance in gpu.instances})
    found = [by_id[uuid] for uuid in shown if uuid is not None]
    if not found:
        return {}
    instances = [instance for _, instance in found]
    values: dict[str, Any] = {
        names.HOST_GPU_ID: [(instance or gpu).uuid for gpu, instance in found],
        names.HOST_GPU_NAME: [gpu.name for gpu, _ in found],
        names.HOST_GPU_MEMORY_SIZE: [(instance or gpu).memory_bytes for gpu, instance in found],
        names.HOST_GPU_MIG_PROFILE: [one.profile if one is not None else None for one in instances],
        names.HOST_GPU_DRIVER_VERSION: driver.version(),
        names.HOST_GPU_CUDA_VERSION: driver.cuda_version(),
    }
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, list) and None in value)
    }
