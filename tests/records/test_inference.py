"""Records are spans' attributes in another form, and nothing gets lost between the two."""

from tests.support.records import full_inference, inference
from warpspan.records import (
    Denoising,
    Generation,
    Loop,
    Memory,
    Phases,
    codec,
    device_attributes,
    take_out_details,
)

FULL = full_inference()


def test_the_end_is_the_start_and_the_duration():
    """Times on a span are Unix nanoseconds."""
    assert FULL.end_ns == 1_700_000_000_250_000_000


def test_start_attributes_are_what_a_head_sampler_may_see():
    """Operation, model and device are known before the inference runs."""
    assert FULL.start_attributes() == {
        "pytorch.operation.name": "forward",
        "pytorch.model.name": "BertModel",
        "pytorch.device.type": "cuda",
        "pytorch.device.index": 1,
        "hw.id": "GPU-1234",
    }


def test_end_attributes_are_all_that_was_measured():
    """Each field has its attribute, in the units of the registry."""
    assert FULL.end_attributes() == {
        "pytorch.model.name": "BertModel",
        "pytorch.model.parameter.count": 22,
        "pytorch.model.parameter.size": 88,
        "pytorch.model.dtype": "float32",
        "pytorch.model.quantization": "int8",
        "pytorch.model.compiled": True,
        "pytorch.model.device.count": 2,
        "pytorch.input.batch.size": 8,
        "pytorch.input.sequence.length": 128,
        "pytorch.input.shape": (8, 128),
        "pytorch.host.cpu.time": 0.1,
        "pytorch.device.time": 0.2,
        "pytorch.device.queue.time": 0.01,
        "pytorch.device.idle.time": 0.02,
        "pytorch.inference.concurrency": 3,
        "pytorch.host.gc.time": 0.001,
        "pytorch.host.gc.count": 2,
        "pytorch.memory.allocated.start": 1,
        "pytorch.memory.allocated.end": 2,
        "pytorch.memory.peak.size": 30,
        "pytorch.memory.peak.increase": 29,
        "pytorch.memory.reserved": 40,
        "pytorch.memory.limit": 100,
        "pytorch.memory.utilization": 0.3,
        "pytorch.memory.allocation.retries": 0,
        "pytorch.memory.oom.requested": 7,
        "pytorch.host.memory.rss": 9,
        "pytorch.step.count": 3,
        "pytorch.step.first.time": 0.1,
        "pytorch.step.time": 0.2,
        "pytorch.gpu.time": 0.2,
        "pytorch.sm.cycles.active": 5e9,
        "pytorch.sm.cycles.elapsed": 3.5e8,
        "pytorch.sm.clock": 1.755e9,
        "pytorch.sm.utilization": 0.6,
        "pytorch.sm.occupancy": 0.3,
        "pytorch.tensor_core.utilization": 0.4,
        "pytorch.dram.utilization": 0.5,
        "pytorch.sm.source": "gpm",
        "pytorch.sm.scope": "device",
        "pytorch.energy.used": 90.0,
        "pytorch.energy.power": 450.0,
        "pytorch.energy.source": "nvml.energy",
        "pytorch.gpu.utilization": 0.97,
        "pytorch.gpu.temperature": 61.0,
        "pytorch.gpu.throttle.reasons": ("sw_power_cap",),
        "pytorch.gpu.estimated": True,
        "pytorch.kv_cache.type": "dynamic",
        "pytorch.kv_cache.size": 4096,
        "pytorch.kv_cache.increase": 512,
        "pytorch.kv_cache.token.count": 8,
        "pytorch.kv_cache.token.increase": 1,
        "pytorch.kv_cache.token.capacity": 16,
        "pytorch.kv_cache.layer.count": 2,
        "pytorch.kv_cache.retained": 2048,
        "pytorch.kv_cache.weight.ratio": 0.5,
        "pytorch.kv_cache.utilization": 0.25,
        "pytorch.kv_cache.alive.size": 8192,
        "pytorch.kv_cache.alive.count": 2,
        "pytorch.kv_cache.leak.score": 0.75,
        "pytorch.kv_cache.leak.start": 1_700_000_000.5,
        "pytorch.sync.count": 38,
        "pytorch.sync.time": 0.012,
        "pytorch.sync.longest.kind": "cpu",
        "pytorch.sync.longest.time": 0.009,
        "pytorch.sync.longest.code.file.path": "/app/serve.py",
        "pytorch.sync.longest.code.line.number": 7,
        "pytorch.sync.longest.code.function.name": "serve.handle",
        "pytorch.sync.repeated.kind": "item",
        "pytorch.sync.repeated.code.file.path": "/app/decode.py",
        "pytorch.sync.repeated.code.line.number": 42,
        "pytorch.sync.repeated.code.function.name": "decode.Decoder.forward",
        "pytorch.sync.kinds": ("cpu", "item"),
        "pytorch.sync.counts": (1, 37),
        "pytorch.sync.times": (0.009, 0.003),
        "pytorch.sync.place.kinds": ("cpu",),
        "pytorch.sync.place.code.file.paths": ("/app/serve.py",),
        "pytorch.sync.place.code.line.numbers": (7,),
        "pytorch.sync.place.code.function.names": ("serve.handle",),
        "pytorch.sync.place.counts": (1,),
        "pytorch.sync.place.times": (0.009,),
        "pytorch.transfer.h2d.count": 2,
        "pytorch.transfer.h2d.size": 600,
        "pytorch.transfer.h2d.pageable.size": 500,
        "pytorch.transfer.h2d.weights.size": 400,
        "pytorch.transfer.h2d.time": 1e-6,
        "pytorch.transfer.h2d.bandwidth": 6e8,
        "pytorch.transfer.h2d.device.share": 0.000005,
        "pytorch.transfer.d2h.count": 38,
        "pytorch.transfer.d2h.size": 100,
        "pytorch.transfer.d2h.pageable.size": 60,
        "pytorch.transfer.d2h.weights.size": 0,
        "pytorch.transfer.d2h.time": 2e-6,
        "pytorch.transfer.d2h.bandwidth": 5e7,
        "pytorch.transfer.d2h.device.share": 0.00001,
        "pytorch.transfer.d2d.count": 1,
        "pytorch.transfer.d2d.size": 50,
        "pytorch.transfer.d2d.pageable.size": 0,
        "pytorch.transfer.d2d.weights.size": 0,
        "pytorch.transfer.d2d.time": 3e-6,
        "pytorch.transfer.d2d.bandwidth": 1e7,
        "pytorch.transfer.d2d.device.share": 0.000015,
        "pytorch.transfer.pin.count": 1,
        "pytorch.transfer.pin.size": 500,
        "pytorch.transfer.pin.time": 0.001,
        "error.type": "torch.OutOfMemoryError",
    }


def test_what_was_not_measured_is_absent():
    """An inference of which nothing more is known has no attribute that says 0 or nothing."""
    bare = inference()
    assert {} == bare.end_attributes()
    assert {"pytorch.operation.name": "forward", "pytorch.device.type": "cpu"} == (
        bare.start_attributes()
    )
    assert {"pytorch.device.type": "cpu"} == device_attributes(bare.device)


def test_running_out_of_memory_is_known_by_class_or_by_size():
    """torch's own class says it on a GPU; on a CPU only the message, which gave the size."""
    bare = inference()
    assert not bare.out_of_memory
    assert bare._replace(error_type="torch.OutOfMemoryError").out_of_memory
    assert bare._replace(memory=Memory(oom_requested_bytes=1)).out_of_memory


def test_a_span_with_few_attributes_keeps_its_details():
    """Where there is room, all stands on the span."""
    attributes = FULL._replace(loop=None, transfers=None).end_attributes()
    before = dict(attributes)
    assert ({}, before) == (take_out_details(attributes), attributes)


def test_details_leave_a_span_with_many_attributes():
    """All of them or none, so that it is known where to look for one."""
    loop = Loop(
        Phases("text-generation", "device", *[0.1] * 7),
        Generation(1, 2, *[0.1] * 7, 3, 0.1, 0.1, 4, 0.1),
        Denoising(5, *[0.1] * 9),
    )
    whole = FULL._replace(loop=loop).end_attributes()
    attributes = dict(whole)
    details = take_out_details(attributes)
    assert whole == attributes | details
    assert {attribute.name for attribute in codec.attributes if attribute.detail} & set(
        whole
    ) == set(details)
