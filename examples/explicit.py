"""Names inferences that have no module call of their own: functions, engines, whole steps.

    warpspan run -- python examples/explicit.py

Three forms of one thing: a block, a decorator, and the decorator on a coroutine. The module calls
inside are steps of the named inference.
"""

from __future__ import annotations

import asyncio

import torch
from torch import nn

import warpspan

torch.manual_seed(7)
encoder = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 32)).eval()
documents = torch.randn(500, 64)


@warpspan.inference("embed")
@torch.inference_mode()
def embed(rows: torch.Tensor) -> torch.Tensor:
    """A decorated function: each call is one inference, its module calls are its steps."""
    return torch.cat([encoder(part) for part in rows.split(100)])


@warpspan.inference("answer")
async def answer(question: torch.Tensor, index: torch.Tensor) -> int:
    """A decorated coroutine: the inference lasts from the call to the result."""
    await asyncio.sleep(0.01)  # another service, say
    with torch.inference_mode():
        return int((index @ encoder(question)).argmax())


def rerank(question: torch.Tensor, candidates: torch.Tensor) -> list[int]:
    """A block: here no module is called at all, only functions."""
    with warpspan.inference("rerank"), torch.inference_mode():
        scores = torch.nn.functional.cosine_similarity(candidates, question.unsqueeze(0))
        return scores.topk(3).indices.tolist()


async def main() -> None:
    index = embed(documents)
    questions = torch.randn(8, 64)
    found = await asyncio.gather(*(answer(question, index) for question in questions))
    print("nearest:", found)
    print("top 3 of the first:", rerank(documents[found[0]], documents))


asyncio.run(main())
