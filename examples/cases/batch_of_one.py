"""One inference for each request: the model costs nearly as much for one text as for eight.

Requests come in bursts. Each is answered by an inference of its own while the others wait. Cured,
what has arrived is answered by one inference.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from threading import Thread

import torch
from common import device, is_cured, serve
from torch import nn

MOST = 8 if is_cured(__doc__.splitlines()[0]) else 1
torch.manual_seed(7)
model = nn.Sequential(*(nn.Sequential(nn.Linear(256, 256), nn.ReLU()) for _ in range(24)))
model = model.eval().to(device())
arrived: SimpleQueue[tuple[torch.Tensor, SimpleQueue[torch.Tensor]] | None] = SimpleQueue()


def work() -> None:
    """Answer what has arrived, at most so many at a time."""
    while (first := arrived.get()) is not None:
        batch = [first]
        while len(batch) < MOST:
            try:
                further = arrived.get_nowait()
            except Empty:
                break
            if further is None:
                arrived.put(None)
                break
            batch.append(further)
        # Now and then two come together in any program, so that costs by batch size are known.
        with torch.inference_mode():
            outputs = model(torch.cat([x for x, _ in batch]).to(device())).cpu()
        at = 0
        for x, answered in batch:
            answered.put(outputs[at : at + len(x)])
            at += len(x)


def ask(rows: int) -> None:
    """One request, with a text or a few."""
    answered: SimpleQueue[torch.Tensor] = SimpleQueue()
    arrived.put((torch.randn(rows, 256), answered))
    answered.get()


worker = Thread(target=work)
worker.start()
sizes = [2 if n % 10 == 0 else 4 if n % 10 == 5 else 1 for n in range(1200)]
with ThreadPoolExecutor(8) as clients:
    list(clients.map(lambda rows: serve(ask, [rows]), sizes))
arrived.put(None)
worker.join()
