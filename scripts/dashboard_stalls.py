"""The dashboards of generations and diffusions, and of what holds inferences up."""

from __future__ import annotations

from dashboard_panels import (
    BY_MODEL,
    FILTERS,
    OF_MODEL,
    SPAN,
    Graph,
    Heatmap,
    M,
    Note,
    Page,
    S,
    Traces,
    each,
    quantile,
)

BY = "sum by (service_name, pytorch_model_name)"


def by_hub(metric: str, title: str) -> Graph:
    """A metric of the GenAI conventions, which know models by their names on the Hub only."""
    label = "gen_ai_request_model"
    return Graph(
        f"{title}, by name on the Hub",
        "s",
        (quantile(0.5, metric, label, S), quantile(0.99, metric, label, S)),
        "By OpenTelemetry's GenAI conventions, to compare with other servers.",
        exemplars=True,
    )


GENERATION = Page(
    "generation",
    "PyTorch inference: generation and diffusion",
    FILTERS,
    (
        Note(
            "What to look at",
            "**Time to the first token** is prefill and what waited before it: it grows with prompts "
            "and with the load. **Time per token** is decoding: if it grows with the load, the device "
            "is shared; if it is high for one request, look for inferences *that wait for the host*.",
        ),
        Heatmap(
            "First tokens",
            "s",
            "pytorch_inference_token_first_duration_seconds",
            "How many generations per second gave their first token after how long.",
        ),
        Heatmap(
            "Tokens after the first",
            "s",
            "pytorch_inference_token_duration_seconds",
            "Likewise the mean time per token.",
        ),
        each("pytorch_inference_token_first_duration_seconds", "s", "Time to the first token"),
        each(
            "pytorch_inference_token_duration_seconds",
            "s",
            "Time per token after the first",
            "Mean of each generation.",
        ),
        Graph(
            "Tokens per second",
            "short",
            (
                (
                    f"sum by (service_name, pytorch_model_name, pytorch_token_type) (rate(pytorch_inference_tokens_total{{{M}}}[5m]))",
                    f"{OF_MODEL} {{{{pytorch_token_type}}}}",
                ),
            ),
        ),
        each(
            "pytorch_inference_denoise_step_duration_seconds",
            "s",
            "Time of a denoising step",
            "Mean of each diffusion.",
        ),
        by_hub("gen_ai_server_time_to_first_token_seconds", "Time to the first token"),
        by_hub("gen_ai_server_time_per_output_token_seconds", "Time per token"),
        by_hub("gen_ai_server_request_duration_seconds", "Duration"),
        Graph(
            "Requests per second, by name on the Hub",
            "reqps",
            (
                (
                    f"sum by (gen_ai_request_model, gen_ai_operation_name, error_type) (rate(gen_ai_server_request_duration_seconds_count{{{S}}}[5m]))",
                    "{{gen_ai_request_model}} {{gen_ai_operation_name}} {{error_type}}",
                ),
            ),
        ),
        Traces(
            "First tokens after more than 200 ms",
            f"{{ {SPAN} && span.pytorch.token.first.time > 0.2 }} | select(span.pytorch.token.first.time, span.pytorch.prefill.time, span.pytorch.token.input.count)",
        ),
        Traces(
            "Generations over 0.1 GPU-seconds, by prompt and by tokens after it",
            f"{{ {SPAN} && span.pytorch.gpu.time > 0.1 && span.pytorch.decode.time > 0.0 }} | select(span.pytorch.prefill.time, span.pytorch.decode.time, span.pytorch.prefill.sm.cycles.active, span.pytorch.decode.sm.cycles.active, span.pytorch.token.generated.count)",
        ),
        Traces(
            "Generations that wait for the host",
            f"{{ {SPAN} && span.pytorch.decode.between.share > 0.4 }} | select(span.pytorch.decode.between.share, span.pytorch.decode.time, span.pytorch.token.duration.mean, span.pytorch.token.duration.p99)",
            "Over 40 % of the time of decoding is not in the model.",
        ),
        Traces(
            "Diffusions",
            f"{{ {SPAN} && span.pytorch.denoise.step.count > 0 }} | select(span.pytorch.pipeline.name, span.pytorch.denoise.step.count, span.pytorch.denoise.time, span.pytorch.vae.share, span.pytorch.text_encoder.share)",
        ),
    ),
)

STALLS = Page(
    "stalls",
    "PyTorch inference: transfers and stalls",
    FILTERS,
    (
        Note(
            "What to look at",
            "**Pageable** copies: pin the memory (`pin_memory=True`) and copy with `non_blocking=True`. "
            "**Waiting**: the list at the end has the line of code; `.item()`, `.cpu()` and `if tensor` "
            "inside a loop are the usual ones. **Idle before an inference** under load: the host "
            "prepares too slowly, for example on one thread.",
        ),
        Graph(
            "Bytes over the bus",
            "Bps",
            (
                (
                    f"sum by (pytorch_transfer_direction, pytorch_transfer_memory) (rate(pytorch_inference_transfer_io_bytes_total{{{M}}}[5m]))",
                    "{{pytorch_transfer_direction}} {{pytorch_transfer_memory}}",
                ),
            ),
            "`pageable`: through memory that is not pinned, copied twice.",
        ),
        Graph(
            "Bytes per inference",
            "bytes",
            (
                (
                    f"sum by (service_name, pytorch_model_name, pytorch_transfer_direction) (rate(pytorch_inference_transfer_io_bytes_total{{{M}}}[5m])) / on (service_name, pytorch_model_name) group_left () {BY} (rate(pytorch_inference_duration_seconds_count{{{M}}}[5m]))",
                    f"{OF_MODEL} {{{{pytorch_transfer_direction}}}}",
                ),
            ),
        ),
        Graph(
            "Share of pageable memory in the copies",
            "percentunit",
            (
                (
                    f'sum by (pytorch_transfer_direction) (rate(pytorch_inference_transfer_io_bytes_total{{{M},pytorch_transfer_memory="pageable"}}[5m])) / sum by (pytorch_transfer_direction) (rate(pytorch_inference_transfer_io_bytes_total{{{M}}}[5m]))',
                    "{{pytorch_transfer_direction}}",
                ),
            ),
            "Of the bytes.",
        ),
        Graph(
            "Copies per second",
            "ops",
            (
                (
                    f"sum by (pytorch_transfer_direction) (rate(pytorch_inference_transfer_copies_total{{{M}}}[5m]))",
                    "{{pytorch_transfer_direction}}",
                ),
            ),
        ),
        Graph(
            "Time of the copies over device time",
            "percentunit",
            ((f"model:transfer_share:ratio5m{{{M}}}", BY_MODEL),),
            "Above 100 % the bus is the bottleneck.",
        ),
        Graph(
            "Share of the duration spent waiting for the device",
            "percentunit",
            ((f"model:sync_share:ratio5m{{{M}}}", BY_MODEL),),
            "Above 100 % where waits after the inference count for it.",
        ),
        Graph(
            "Waiting for the device",
            "s",
            (
                (
                    f"sum by (pytorch_sync_kind) (rate(pytorch_inference_sync_time_seconds_total{{{M}}}[5m]))",
                    "{{pytorch_sync_kind}}",
                ),
            ),
            "Seconds per second, by what made the host wait.",
        ),
        Graph(
            "Waits per second",
            "ops",
            (
                (
                    f"sum by (pytorch_sync_kind) (rate(pytorch_inference_sync_calls_total{{{M}}}[5m]))",
                    "{{pytorch_sync_kind}}",
                ),
            ),
        ),
        each(
            "pytorch_inference_device_queue_duration_seconds",
            "s",
            "Wait in the stream before the device began",
        ),
        Graph(
            "Device idle before an inference",
            "s",
            (
                (
                    f"{BY} (rate(pytorch_inference_idle_time_seconds_total{{{M}}}[5m])) / {BY} (rate(pytorch_inference_duration_seconds_count{{{M}}}[5m]))",
                    OF_MODEL,
                ),
            ),
            "Mean. Much of it under load means that the host is too slow.",
        ),
        Traces(
            "Inferences that copied over 100 MB to the device",
            f"{{ {SPAN} && span.pytorch.transfer.h2d.size > 100000000 }} | select(span.pytorch.transfer.h2d.size, span.pytorch.transfer.h2d.pageable.size, span.pytorch.transfer.h2d.time, span.pytorch.transfer.h2d.device.share)",
        ),
        Traces(
            "Inferences that waited over 100 ms for the device",
            f"{{ {SPAN} && span.pytorch.sync.time > 0.1 }} | select(span.pytorch.sync.time, span.pytorch.sync.count, span.pytorch.sync.longest.kind, span.pytorch.sync.longest.code.file.path, span.pytorch.sync.longest.code.line.number)",
        ),
    ),
)
