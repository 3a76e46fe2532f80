"""sentence-transformers: embeddings and reranking by a BERT of the smallest size."""

import sys
import tempfile

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "is", "a", "span"]

torch.manual_seed(0)
words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=words,
    pad_token="[PAD]",
    unk_token="[UNK]",
    cls_token="[CLS]",
    sep_token="[SEP]",
)
config = BertConfig(
    vocab_size=len(WORDS),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    num_labels=1,
)
with tempfile.TemporaryDirectory() as folder:
    tokenizer.save_pretrained(folder)
    if sys.argv[1] == "embed":
        BertModel(config).save_pretrained(folder)
        embedder = Transformer(folder)
        model = SentenceTransformer(modules=[embedder, Pooling(16)], device="cpu")
        texts = ["what is a span"] * 5
        print(model.encode(texts, batch_size=2, show_progress_bar=False).shape)
    else:
        BertForSequenceClassification(config).save_pretrained(folder)
        reranker = CrossEncoder(folder, device="cpu")
        print(len(reranker.rank("what is a span", ["a span", "a span is"])))
