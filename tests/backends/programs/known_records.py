"""Inferences whose every number is known: what known_inferences.py sends.

Each is a route, a conversation and the record of the inference below that request.
"""

from __future__ import annotations

from warpspan.records import (
    Cache,
    Denoising,
    Device,
    GenAi,
    Generation,
    Inference,
    Input,
    Loop,
    Memory,
    Model,
    PhaseCycles,
    Phases,
    Site,
    Steps,
    SyncKind,
    Syncs,
    Timing,
    Transfer,
    Transfers,
    Usage,
)

MIB, GIB = 1 << 20, 1 << 30
LIMIT = 80 * GIB
GPU = [Device("cuda", n, f"GPU-00000000-0000-0000-0000-00000000000{n + 1}") for n in (0, 1)]
BERT = Model(
    name="BertModel",
    parameter_count=22_713_216,
    parameter_bytes=90_852_864,
    dtype="float32",
    quantization=None,
    compiled=False,
    device_count=1,
)
LLAMA = Model(
    name="LlamaForCausalLM",
    parameter_count=8_030_261_248,
    parameter_bytes=16_060_522_496,
    dtype="bfloat16",
    quantization=None,
    compiled=False,
    device_count=1,
)
UNET = Model(
    name="UNet2DConditionModel",
    parameter_count=859_520_964,
    parameter_bytes=1_719_041_928,
    dtype="float16",
    quantization=None,
    compiled=False,
    device_count=1,
)
#: What the caches of answers() hold after their last turns, and how surely the third one's leak.
CACHES_BYTES, LEAK_SCORE = 1600 * MIB, 0.96


def usage(gpu_time_s):
    """At 1.5 GHz, 132 multiprocessors half in use, 400 W."""
    return Usage(
        gpu_time_s=gpu_time_s,
        sm_cycles_active=gpu_time_s * 1.5e9 * 132 * 0.5,
        sm_cycles_elapsed=gpu_time_s * 1.5e9,
        sm_clock_hz=1.5e9,
        sm_utilization=0.5,
        sm_source="gpm",
        sm_scope="device",
        energy_j=gpu_time_s * 400.0,
        power_w=400.0,
        energy_source="nvml.energy",
        estimated=False,
    )


def memory(peak, *, start=10 * GIB, requested=None):
    return Memory(
        allocated_start_bytes=start,
        allocated_end_bytes=start,
        peak_bytes=peak,
        peak_increase_bytes=peak - start,
        reserved_bytes=max(peak, 20 * GIB),
        limit_bytes=LIMIT,
        utilization=peak / LIMIT,
        allocation_retries=0 if requested is None else 1,
        oom_requested_bytes=requested,
    )


def transfer(copies, nbytes, device_time_s, *, pageable):
    """At 20 GB/s, as far as it is large enough to be timed."""
    time_s = nbytes / 20e9 if nbytes >= 256 << 10 else None
    return Transfer(
        total=copies,
        nbytes=nbytes,
        pageable_bytes=nbytes if pageable else 0,
        weight_bytes=0,
        time_s=time_s,
        bytes_per_s=None if time_s is None else 20e9,
        device_share=None if time_s is None else time_s / device_time_s,
    )


def embeddings():
    """Twenty of BertModel on the first GPU; the eighth copies 200 MiB and takes 1.2 s."""
    for number in range(20):
        batch = (1, 2, 4, 8)[number % 4]
        heavy = number == 7
        device_time = 0.002 * batch
        yield (
            "/embed",
            f"reader-{number % 2}",
            Inference(
                operation="forward",
                start_ns=0,
                duration_s=1.2 if heavy else device_time + 0.004,
                device=GPU[0],
                model=BERT,
                input=Input(batch_size=batch, sequence_length=32, shape=(batch, 32)),
                timing=Timing(
                    cpu_time_s=0.003,
                    device_time_s=device_time,
                    queue_time_s=0.06 if number >= 18 else 0.0001,
                    idle_time_s=0.010,
                    concurrency=1 + number // 10,
                    gc_time_s=0.025 if number == 3 else 0.0,
                    gc_count=1 if number == 3 else 0,
                ),
                memory=memory(11 * GIB),
                usage=usage(device_time),
                syncs=Syncs(
                    total=1,
                    stalled_s=0.002,
                    longest_kind="cpu",
                    longest_s=0.002,
                    longest_site=Site("app.py", 49, "embed"),
                    kinds=(SyncKind("cpu", 1, 0.002),),
                ),
                transfers=Transfers(
                    h2d=transfer(
                        2, 200 * MIB if heavy else batch * MIB, device_time, pageable=heavy
                    ),
                    d2h=transfer(1, 1536 * batch, device_time, pageable=True),
                ),
            ),
        )


def generation(turn, conversation):
    """128 tokens at 10 ms each.

    The second conversation stutters; in the third half of the time is not the model's.
    """
    stutters = conversation == 2
    between_share = 0.5 if conversation == 3 else 0.2
    return Generation(
        input_tokens=128 * turn,
        generated_tokens=128,
        first_token_s=0.05 * turn + 0.01,
        token_mean_s=0.01,
        token_p50_s=0.01,
        token_p99_s=0.04 if stutters else 0.012,
        token_max_s=0.08 if stutters else 0.02,
        prefill_s=0.05 * turn,
        decode_s=1.27,
        decode_steps=127,
        between_s=1.27 * between_share,
        between_share=between_share,
    )


def cycles(device_time_s):
    """As in usage(), of a part of it."""
    return PhaseCycles(
        sm_cycles_active=device_time_s * 1.5e9 * 132 * 0.5,
        sm_cycles_elapsed=device_time_s * 1.5e9,
        estimated=False,
    )


def text_completion(input_tokens, generated_tokens):
    return GenAi(
        operation="text_completion",
        provider="pytorch",
        request_model="meta-llama/Llama-3.1-8B-Instruct",
        input_tokens=input_tokens,
        output_tokens=generated_tokens,
    )


def cache(turn, conversation):
    """The third conversation's grow twice as fast, and its last one is taken for a leak."""
    increase = (2 if conversation == 3 else 1) * 100 * MIB
    return Cache(
        "dynamic",
        size_bytes=increase * turn,
        increase_bytes=increase,
        tokens=256 * turn,
        token_increase=256,
        layers=32,
        retained_bytes=increase * turn,
        weight_ratio=increase * turn / LLAMA.parameter_bytes,
        utilization=increase * turn / LIMIT,
        alive_bytes=400 * MIB * (conversation - 1) + increase * turn,
        alive_count=conversation,
        leak_score=LEAK_SCORE if (conversation, turn) == (3, 4) else 0.2,
    )


def answers():
    """Three conversations with LlamaForCausalLM on the second GPU, four turns each.

    The last turn of the third one fills the memory to 95 %.
    """
    for conversation in (1, 2, 3):
        for turn in (1, 2, 3, 4):
            tokens = generation(turn, conversation)
            last = (conversation, turn) == (3, 4)
            yield (
                "/chat",
                f"conversation-{conversation}",
                Inference(
                    operation="generate",
                    start_ns=0,
                    duration_s=2.0 + 0.1 * turn,
                    device=GPU[1],
                    model=LLAMA,
                    input=Input(batch_size=1, sequence_length=128 * turn, shape=(1, 128 * turn)),
                    timing=Timing(
                        device_time_s=1.5, queue_time_s=0.0002, idle_time_s=0.5, concurrency=1
                    ),
                    memory=memory(76 * GIB if last else 40 * GIB, start=30 * GIB),
                    steps=Steps(
                        total=128,
                        first_s=tokens.first_token_s,
                        duration_s=tokens.prefill_s + 1.27 - tokens.between_s,
                    ),
                    usage=usage(1.5),
                    syncs=Syncs(
                        total=128,
                        stalled_s=0.4,
                        longest_kind="item",
                        longest_s=0.01,
                        longest_site=Site("generation.py", 210, "sample"),
                        repeated_kind="item",
                        repeated_site=Site("generation.py", 210, "sample"),
                        kinds=(SyncKind("item", 128, 0.4),),
                    ),
                    cache=cache(turn, conversation),
                    loop=Loop(
                        Phases(source="device"),
                        tokens,
                        gen_ai=text_completion(128 * turn, 128),
                        prefill_cycles=cycles(tokens.prefill_s),
                        decode_cycles=cycles(tokens.decode_s),
                    ),
                ),
            )


def drawings():
    """Two by a diffusion on the first GPU, of 20 and of 50 steps in the same time."""
    for steps in (20, 50):
        yield (
            "/draw",
            "painter",
            Inference(
                operation="diffusion",
                start_ns=0,
                duration_s=0.5,
                device=GPU[0],
                model=UNET,
                input=Input(batch_size=2, sequence_length=None, shape=(2, 4, 64, 64)),
                timing=Timing(
                    device_time_s=0.225, queue_time_s=0.0001, idle_time_s=0.2, concurrency=1
                ),
                memory=memory(20 * GIB),
                steps=Steps(total=steps + 2, first_s=0.003, duration_s=0.22475),
                usage=usage(0.225),
                transfers=Transfers(d2h=transfer(1, 6 * MIB, 0.225, pageable=False)),
                loop=Loop(
                    Phases("StableDiffusionPipeline", "device"),
                    denoising=Denoising(
                        steps=steps,
                        duration_s=0.2,
                        step_mean_s=0.2 / steps,
                        step_p50_s=0.2 / steps,
                        step_p99_s=0.2 / steps,
                        step_max_s=0.2 / steps,
                        vae_s=0.0225,
                        vae_share=0.1,
                        text_encoder_s=0.00225,
                        text_encoder_share=0.01,
                    ),
                ),
            ),
        )


def failures():
    """One that ran out of memory, and one that a user's error left."""
    yield (
        "/chat",
        "conversation-4",
        Inference(
            operation="generate",
            start_ns=0,
            duration_s=0.3,
            device=GPU[1],
            model=LLAMA,
            input=Input(batch_size=8, sequence_length=4096, shape=(8, 4096)),
            timing=Timing(device_time_s=0.2, queue_time_s=0.0002, idle_time_s=0.5, concurrency=1),
            memory=memory(75 * GIB, start=30 * GIB, requested=8 * GIB),
            usage=usage(0.2),
            loop=Loop(
                Phases(source="device"),
                Generation(input_tokens=8 * 4096),
                gen_ai=text_completion(8 * 4096, None),
            ),
            error_type="torch.OutOfMemoryError",
        ),
    )
    yield (
        "/embed",
        "reader-0",
        Inference(
            operation="forward",
            start_ns=0,
            duration_s=0.001,
            device=GPU[0],
            model=BERT,
            input=Input(batch_size=1, sequence_length=32, shape=(1, 32)),
            timing=Timing(
                device_time_s=0.0005, queue_time_s=0.0001, idle_time_s=0.01, concurrency=1
            ),
            error_type="builtins.ValueError",
        ),
    )


def all_of_them():
    return [*embeddings(), *answers(), *drawings(), *failures()]
