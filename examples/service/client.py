"""Sends the service a few hundred requests as customers would, and prints one line of figures.

    python examples/service/client.py http://127.0.0.1:8000

The same requests each time (a fixed seed): one to sixteen messages each, from three words to
several hundred, first one request at a time, then four at once, then sixteen.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

import httpx

MESSAGES = (Path(__file__).parent / "messages.txt").read_text(encoding="utf-8").split("\n\n")
BATCH_SIZES = [1, 2, 4, 8, 16]
BATCH_WEIGHTS = [60, 20, 12, 6, 2]
PHASES = [(1, 0.15), (4, 0.6), (16, 0.25)]  # requests at once, share of all requests


def requests(count: int, seed: int) -> list[tuple[str, list[str]]]:
    """Paths and bodies. Long messages are rare, as in a real inbox."""
    pick = random.Random(seed)
    rarity = [1 / (1 + len(message.split()) / 40) for message in MESSAGES]
    return [
        (
            pick.choice(["/embed", "/classify", "/classify"]),
            pick.choices(MESSAGES, rarity, k=pick.choices(BATCH_SIZES, BATCH_WEIGHTS)[0]),
        )
        for _ in range(count)
    ]


async def is_ready(client: httpx.AsyncClient) -> bool:
    """Whether /healthz answers."""
    try:
        return (await client.get("/healthz")).is_success
    except httpx.TransportError:
        return False


async def wait_until_ready(client: httpx.AsyncClient, deadline_s: float) -> None:
    """Poll until the service is ready; the model takes some seconds to load."""
    give_up = time.monotonic() + deadline_s
    while not await is_ready(client):
        if time.monotonic() > give_up:
            sys.exit(f"client: nothing answers at {client.base_url} after {deadline_s:g} s")
        await asyncio.sleep(0.1)


def show(done: int, count: int) -> None:
    """Progress on a terminal, nothing in a log file."""
    if sys.stderr.isatty():
        end = "\r\033[K" if done == count else ""
        print(f"\rclient: {done}/{count} requests", end=end, file=sys.stderr, flush=True)


async def drive(client: httpx.AsyncClient, count: int, seed: int) -> tuple[list[float], int, int]:
    """Latencies in seconds, failed requests and messages sent."""
    latencies: list[float] = []
    failed = 0
    todo = requests(count, seed)

    async def one(path: str, texts: list[str]) -> None:
        nonlocal failed
        start = time.perf_counter()
        try:
            (await client.post(path, json={"texts": texts})).raise_for_status()
        except httpx.HTTPError as error:
            failed += 1
            if failed == 1:
                print(f"client: {path} failed: {error!r}", file=sys.stderr)
        latencies.append(time.perf_counter() - start)
        show(len(latencies), count)

    async def worker(queue: list[tuple[str, list[str]]]) -> None:
        while queue:
            await one(*queue.pop(0))

    first = 0
    for at_once, share in PHASES:
        last = count if (at_once, share) == PHASES[-1] else first + round(count * share)
        queue = todo[first:last]
        await asyncio.gather(*(worker(queue) for _ in range(at_once)))
        first = last
    return latencies, failed, sum(len(texts) for _, texts in todo)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="where the service listens")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--deadline", type=float, default=120, help="seconds to wait for readiness")
    options = parser.parse_args()
    if not options.url.startswith(("http://", "https://")):
        parser.error(f"give the address with its scheme: http://{options.url}")
    if options.requests < 1:
        parser.error("--requests must be at least 1")
    async with httpx.AsyncClient(base_url=options.url, timeout=60) as client:
        await wait_until_ready(client, options.deadline)
        start = time.perf_counter()
        latencies, failed, messages = await drive(client, options.requests, options.seed)
        took = time.perf_counter() - start
    latencies.sort()
    p50, p95 = (latencies[round(q * (len(latencies) - 1))] for q in (0.5, 0.95))
    print(
        f"client: {len(latencies)} requests with {messages} messages in {took:.1f} s "
        f"({len(latencies) / took:.1f}/s), p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms, "
        f"{failed} failed"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except KeyboardInterrupt:
        sys.exit(130)
