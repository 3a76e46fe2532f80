"""apply(): transformers models compute with the fused kernels, and get their own back."""

import pytest
import torch

transformers = pytest.importorskip("transformers")

from warpspan.kernels.swap import apply  # noqa: E402

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
}
CAUSAL = ("Llama", "Mistral", "Qwen2", "Qwen3")


def causal(family, device):
    config = getattr(transformers, f"{family}Config")(
        **SIZES, num_key_value_heads=2, head_dim=8, max_position_embeddings=64
    )
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForCausalLM")(config).eval().to(device)


def bert(device):
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**SIZES)).eval().to(device)


def logits(model, ids):
    return model(input_ids=ids).logits


@pytest.mark.parametrize("family", CAUSAL)
def test_a_causal_model_computes_the_same_with_fewer_operations(family, device):
    """Logits agree; every norm, MLP, layer and attention is replaced, and restored at the end."""
    model, ids = causal(family, device), torch.arange(12, device=device).view(2, 6)
    expected = logits(model, ids)
    with apply(model) as applied:
        fused = logits(model, ids)
    # Qwen3 has a norm each for queries and keys in every attention, and all have a last one.
    norms = 2 * 2 + 1 + (4 if family == "Qwen3" else 0)
    counts = {"rms_norm": norms, "add_rms_norm": 2, "swiglu": 2, "rope": 2}
    assert counts == applied.counts
    assert torch.allclose(expected, fused, atol=1e-5)
    assert torch.equal(expected, logits(model, ids))
    assert not any("forward" in vars(module) for module in model.modules())


def test_bert_takes_the_residual_with_its_norm(device):
    """Both outputs of each layer; training mode keeps its dropout."""
    model, ids = bert(device), torch.arange(12, device=device).view(2, 6)
    expected = model(input_ids=ids).last_hidden_state
    with apply(model) as applied:
        fused = model(input_ids=ids).last_hidden_state
    assert {"add_layer_norm": 4} == applied.counts
    assert torch.allclose(expected, fused, atol=1e-5)


def test_generate_decodes_the_same_tokens(device):
    """Prefill and cached decode steps through transformers' own generate."""
    model, ids = causal("Llama", device), torch.arange(6, device=device).view(1, 6)
    arguments = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(ids, **arguments)
    with apply(model):
        assert expected.tolist() == model.generate(ids, **arguments).tolist()


def test_state_and_classes_stay(device):
    """Weights can be saved and loaded as before, and other models of the class are untouched."""
    model, other = causal("Llama", device), causal("Llama", device)
    names, classes = list(model.state_dict()), [type(module) for module in model.modules()]
    apply(model)
    assert names == list(model.state_dict())
    assert classes == [type(module) for module in model.modules()]
    assert not any("forward" in vars(module) for module in other.modules())


def test_it_may_be_applied_and_restored_again(device):
    """A second apply finds nothing left, a second restore does nothing."""
    model = causal("Llama", device)
    applied = apply(model)
    with pytest.raises(ValueError, match="Nothing in LlamaForCausalLM matches"):
        apply(model)
    applied.restore()
    applied.restore()
    assert applied.counts == apply(model).counts


def test_a_forward_that_someone_else_replaced_is_left_alone(device):
    """Accelerate and others set it on the instance too: theirs stays."""
    model = causal("Llama", device)
    theirs = model.model.norm.forward
    model.model.norm.forward = theirs
    assert 4 == apply(model).counts["rms_norm"]
    assert theirs is model.model.norm.forward


def test_an_activation_other_than_silu_keeps_its_mlp(device):
    """SwiGLU is silu only."""
    config = transformers.LlamaConfig(**SIZES, hidden_act="gelu")
    model = transformers.LlamaForCausalLM(config).to(device)
    assert "swiglu" not in apply(model).counts


def test_a_compiled_model_calls_the_fused_kernels(device):
    """Dynamo follows the replaced forwards, RoPE's included, into one graph."""
    model, ids = causal("Llama", device).model, torch.arange(6, device=device).view(1, 6)
    expected, called = model(input_ids=ids, use_cache=False).last_hidden_state, set()

    def backend(graph, _inputs):
        called.update(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    torch.compiler.reset()
    apply(model)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    assert torch.allclose(
        expected, compiled(input_ids=ids, use_cache=False).last_hidden_state, atol=1e-5
    )
    ours = {name.split(".")[1] for name in called if name.startswith("warpspan.")}
    assert {"add_rms_norm", "rms_norm", "rope", "swiglu"} == ours


def test_training_raises_a_clear_error(device):
    """The kernels have no gradient."""
    model, ids = causal("Llama", device), torch.arange(6, device=device).view(1, 6)
    apply(model)
    with torch.enable_grad(), pytest.raises(RuntimeError, match=r"torch\.inference_mode"):
        logits(model, ids)


def test_an_unknown_model_is_told(device):
    """What is known is named."""
    with pytest.raises(ValueError, match=r"Nothing in Linear matches .* Llama, Mistral"):
        apply(torch.nn.Linear(2, 2).to(device))


def test_a_model_on_the_cpu_is_refused_without_the_interpreter(monkeypatch):
    """Before the first call fails deep inside Triton."""
    monkeypatch.setattr("warpspan.kernels.swap._interpreted", lambda: False)
    with pytest.raises(RuntimeError, match=r"model\.cuda"):
        apply(bert("cpu"))
