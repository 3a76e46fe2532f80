"""On a real device: what the steps of a generation say is the device's own time."""

import pytest
import torch
from torch import nn

import warpspan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device"),
]


@torch.inference_mode()
def test_steps_add_up_to_the_inference(telemetry):
    """Prefill and decode of a GPU-bound loop are its device time, and nothing waits for it."""
    kind = {"device": "cuda", "dtype": torch.float16}
    model = nn.Sequential(*(nn.Linear(4096, 4096, **kind) for _ in range(8))).eval()
    batch = torch.randn(2048, 4096, device="cuda", dtype=torch.float16)

    def run():
        with warpspan.inference("chat", model=model):
            for name in ("prefill", *["decode"] * 7):
                with warpspan.step(name):
                    model(batch)

    run()
    torch.cuda.synchronize()
    run()
    record = telemetry.records()[-1]
    generation = record.loop.generation
    assert "device" == record.loop.phases.source
    assert record.timing.device_time_s == pytest.approx(
        generation.prefill_s + generation.decode_s, rel=0.05
    )
    assert generation.token_p50_s == pytest.approx(generation.decode_s / 7, rel=0.2)
    if record.loop.decode_cycles is not None:  # the driver gives clocks
        cycles = [record.loop.prefill_cycles.sm_cycles_elapsed]
        cycles.append(record.loop.decode_cycles.sm_cycles_elapsed)
        assert 0 < min(cycles)
        assert sum(cycles) <= record.usage.sm_cycles_elapsed * (1 + 1e-6)
        assert cycles[0] / generation.prefill_s == pytest.approx(record.usage.sm_clock_hz, rel=0.2)
    assert generation.between_share < 0.1


@pytest.mark.values
def test_a_generate(telemetry):
    """transformers on the device: tokens from shapes, times from events."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=256,
        pad_token_id=0,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config).cuda().eval()
    for _ in range(2):
        model.generate(
            torch.ones(2, 5, dtype=torch.long, device="cuda"),
            max_new_tokens=16,
            min_new_tokens=16,
            do_sample=False,
        )
    record = telemetry.records()[-1]
    generation = record.loop.generation
    assert (10, 32, "device") == (
        generation.input_tokens,
        generation.generated_tokens,
        record.loop.phases.source,
    )
    assert generation.decode_steps >= 15
    assert 0 < generation.prefill_s <= generation.first_token_s
    assert generation.decode_s <= record.timing.device_time_s
