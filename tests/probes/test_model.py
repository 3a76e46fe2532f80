"""What is known of a model: counted once, anew when it changes, and never keeping it alive."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from warpspan.probes.model import ModelRegistry, unwrap
from warpspan.records import Model


@pytest.fixture
def registry():
    return ModelRegistry(lambda model_info: True)


def test_facts_of_a_plain_model(registry):
    """Elements, stored bytes and dtype; shared parameters count once."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    model_info = registry.model_info(model)
    assert Model(
        name="Sequential",
        parameter_count=16,
        parameter_bytes=64,
        dtype="float32",
        quantization=None,
        compiled=False,
        device_count=1,
    ) == (model_info.facts())
    assert torch.device("cpu") == model_info.device
    assert model_info.has_state


def test_the_dtype_is_the_one_of_most_bytes(registry):
    """A float32 norm in a bfloat16 model does not make it float32."""
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(64, 64).to(torch.bfloat16))
    assert "bfloat16" == registry.model_info(model).facts().dtype


def test_a_model_is_looked_at_again_when_it_was_cast(registry):
    """half() changes parameters in place, so the cached facts would be wrong."""
    model = nn.Linear(4, 4)
    before = registry.model_info(model)
    assert registry.model_info(model) is before
    assert "float16" == registry.model_info(model.half()).facts().dtype


def test_a_model_that_gains_its_parameters_later_is_looked_at_again(registry):
    """A wrapper that loads its weights on the first call is an inference from then on."""
    model = nn.Sequential()
    assert not registry.model_info(model).has_state
    model.append(nn.Linear(2, 2))
    assert registry.model_info(model).has_state


def test_a_model_is_not_kept_alive_nor_touched(registry):
    """It can be collected, copied and pickled as if it had never been seen."""
    model = nn.Linear(2, 2)
    untouched = set(vars(model))
    registry.model_info(model).facts()
    assert untouched == set(vars(model))
    pickle.loads(pickle.dumps(copy.deepcopy(model)))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert {} == registry._infos


@pytest.mark.parametrize(
    ("wrap", "name", "compiled"),
    [
        (lambda model: model, "Linear", False),
        (torch.compile, "Linear", True),
        (nn.DataParallel, "Linear", False),
        (lambda model: torch.compile(nn.DataParallel(model)), "Linear", True),
        (torch.jit.script, "Linear", False),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_the_name_is_that_of_the_model_inside_wrappers(registry, wrap, name, compiled):
    """A trace of `OptimizedModule` would name no model."""
    model_info = registry.model_info(wrap(nn.Linear(2, 2)))
    assert (name, compiled) == (model_info.name, model_info.compiled)


def test_compile_in_place_is_seen(registry):
    """`model.compile()` leaves the class as it is."""
    model = nn.Linear(2, 2)
    model.compile()
    assert registry.model_info(model).compiled


def test_unwrap_stops_at_a_module_that_only_looks_like_a_wrapper():
    """A user's own class of the same name without a module inside is the model."""

    class DataParallel(nn.Module):
        module = "not a module"

    model = DataParallel()
    assert unwrap(model) is model


@pytest.mark.filterwarnings("ignore:.*torch.(ao|quantize).*")
def test_packed_weights_count_as_state_and_name_their_method(registry):
    """Dynamically quantized layers keep weights that are no parameters."""
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(2, 2)), {nn.Linear})
    model_info = registry.model_info(model)
    assert model_info.has_state
    assert Model("Sequential", quantization="torch.ao", compiled=False) == model_info.facts()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_frozen_script_module_has_state(registry):
    """Freezing turns parameters into constants."""
    frozen = torch.jit.freeze(torch.jit.script(nn.Linear(2, 2).eval()))
    assert registry.model_info(frozen).has_state


def test_quantization_that_a_config_tells(registry):
    """transformers and diffusers keep the method in `config.quantization_config`."""
    model = nn.Linear(2, 2)
    model.config = type("Config", (), {"quantization_config": {"quant_method": "gptq"}})()
    assert "gptq" == registry.model_info(model).facts().quantization


def test_weights_stored_as_integers_are_quantized(registry):
    """An int8 weight-only model without any config."""
    model = nn.Linear(8, 8, bias=False)
    model.weight = nn.Parameter(model.weight.to(torch.int8), requires_grad=False)
    assert "int8" == registry.model_info(model).facts().quantization


def test_facts_that_can_not_be_counted_are_absent(registry):
    """A model whose parameters() raises still has its name."""

    class Broken(nn.Linear):
        broken = False

        def parameters(self, recurse=True):
            if self.broken:
                raise RuntimeError("no parameters today")
            return super().parameters(recurse)

    model = Broken(2, 2)
    model_info = registry.model_info(model)
    model.broken = True
    assert Model("Broken", compiled=False) == model_info.facts()


def offloaded(device):
    """A model whose weights accelerate brings for each call."""
    accelerate = pytest.importorskip("accelerate")
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    return accelerate.cpu_offload(model, execution_device=device)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_an_offloaded_model_runs_where_its_hook_says(registry, device):
    """Its parameters stand on `meta` between calls; it is looked at once."""
    model = offloaded(device)
    model_info = registry.model_info(model)
    assert "meta" == model[0].weight.device.type
    assert torch.device("cpu") == model_info.device
    model(torch.ones(1, 2))
    assert registry.model_info(model) is model_info
    facts = Model("Sequential", 12, 48, "float32", None, compiled=False, device_count=None)
    assert facts == model_info.facts()


def test_a_model_that_is_offloaded_later_is_looked_at_again(registry):
    """And again when the hooks are removed."""
    accelerate = pytest.importorskip("accelerate")
    model = nn.Linear(2, 2)
    before = registry.model_info(model)
    model = accelerate.cpu_offload(model, execution_device="cpu")
    during = registry.model_info(model)
    accelerate.hooks.remove_hook_from_submodules(model)
    after = registry.model_info(model)
    assert len({id(before), id(during), id(after)}) == 3


def test_a_model_on_meta_without_hooks_has_shapes_only(registry):
    """Nobody says where it would run."""
    assert torch.device("meta") == registry.model_info(nn.Linear(2, 2, device="meta")).device


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_a_sharded_model_has_the_name_of_its_own_class(registry, one_process):
    """FSDP2 gives it a class `FSDPSequential`, made of its own."""
    sharding = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(sharding, "fully_shard"):
        pytest.skip("this torch has it elsewhere")
    model = nn.Sequential(nn.Linear(2, 2))
    sharding.fully_shard(model, mesh=one_process)
    assert ("FSDPSequential", "Sequential") == (
        type(model).__name__,
        registry.model_info(model).name,
    )
