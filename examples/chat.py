"""A chat service that streams its replies, as services of language models do.

    warpspan run -- python examples/chat.py

A tiny random model stands for a real one, so nothing is downloaded and nothing sensible is said.
Each conversation keeps its KV cache between turns. Run so, the program sends itself a few
conversations; as a service of its own it is

    warpspan run -- uvicorn --app-dir examples chat:app
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator

import torch
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, TextIteratorStreamer

REPLY_TOKENS = 24

torch.manual_seed(7)
model = LlamaForCausalLM(
    LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=256,
        pad_token_id=0,
        eos_token_id=None,
    )
).eval()


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens, **options) -> str:
        del options
        return bytes(int(token) for token in tokens).decode("latin-1")


tokenizer = Bytes()


class Conversation:
    """What was said so far, and the KV cache of it."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.cache = DynamicCache()

    def answer(self, streamer: TextIteratorStreamer) -> None:
        ids = torch.tensor([self.tokens])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=self.cache,
            streamer=streamer,
            max_new_tokens=REPLY_TOKENS,
            do_sample=True,
        )
        self.tokens = output[0].tolist()


class Message(BaseModel):
    conversation: str
    text: str


app = FastAPI()
conversations: dict[str, Conversation] = {}


@app.post("/chat")
def chat(message: Message) -> StreamingResponse:
    """Streams the reply while the model generates it on a thread."""
    conversation = conversations.setdefault(message.conversation, Conversation())
    conversation.tokens += tokenizer.encode(message.text)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
    # With the request's context, the generation is a child of the request's span.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(conversation.answer, streamer))
    thread.start()

    def reply() -> Iterator[str]:
        yield from streamer
        thread.join()

    return StreamingResponse(reply(), media_type="text/plain")


def main() -> None:
    client = TestClient(app)
    for turn in range(3):
        for name in ("ada", "grace", "joan"):
            said = f"{name} asks something, for the {turn + 1}. time. "
            client.post("/chat", json={"conversation": name, "text": said}).raise_for_status()
    for name, conversation in conversations.items():
        print(f"{name}: {len(conversation.tokens)} tokens in 3 turns")


if __name__ == "__main__":
    main()
