"""A method that calls parts of its own module is one inference, as its user counts."""

import _thread
import gc
import threading

import pytest
import torch
from torch import nn

import warpspan
from warpspan import guard
from warpspan.instrumentor import active_tracker
from warpspan.runtime.scopes import NO_SCOPE, current

X = torch.ones(2, 4)


def helper(layers, x):
    """Calls modules for whoever asks."""
    for layer in layers:
        x = layer(x)
    return x


class Net(nn.Module):
    """Has methods beside its call."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x):
        return self.second(self.first(x))

    @torch.no_grad()
    def encode(self, x):
        return self.first(self.first(x))

    @torch.no_grad()
    def let_go(self, x):
        x = self.first(x)
        reference = torch._C._WeakTensorRef(x)
        x = self.second(x)
        return reference.expired()

    def comprehend(self, x):
        return [layer(x) for layer in (self.first, self.second)]

    def through_a_helper(self, x):
        return helper([self.first, self.second], x)

    def outer(self, x):
        return self.encode(self.forward(x))

    def generate(self, x):
        for _ in range(3):
            x = self(x)
        return x

    def fail_in_a_part(self, x):
        return self.first(self.first(x)[:, :3])

    def fail(self, x):
        self.first(x)
        raise ValueError("no")

    def recover(self, x):
        try:
            return self.first(x[:, :3])
        except RuntimeError:
            return self.first(x)

    def stream(self, x):
        for layer in (self.first, self.second):
            yield layer(x)

    def run(self, xs):
        return [self(x) for x in xs]

    def use_locals(self, x):
        names = locals()
        self.first(x)
        self.second(x)
        return sorted(names)

    def of_another(self, other, x):
        return other(other(x))

    def __call__(self, *args):
        return super().__call__(*args)


@pytest.fixture
def net():
    return Net().eval()


def spans(telemetry):
    """Name, steps and batch of each inference."""
    names = ("pytorch.step.count", "pytorch.input.batch.size")
    return [(span.name, *map(span.attributes.get, names)) for span in telemetry.spans()]


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        ("forward", 2),
        ("encode", 2),
        ("comprehend", 2),
        ("through_a_helper", 2),
        ("outer", 4),
        ("generate", 3),
    ],
)
def test_a_method_is_one_inference(telemetry, net, method, steps):
    """The first call as all others; the parts are its steps."""
    for _ in range(3):
        getattr(net, method)(X)
    assert 3 * [(f"{method} Net", steps, 2)] == spans(telemetry)
    assert current.get() is NO_SCOPE


def test_a_call_of_the_module_stays_as_it_is(telemetry, net):
    """Also through a `__call__` of its own, from a function, and of a part."""
    net(X)
    net.first(X)
    helper([net.first], X)
    assert ["forward Net", "forward Linear", "forward Linear"] == [s[0] for s in spans(telemetry)]


def test_a_method_of_torch_s_own(telemetry, net):
    """A container's `forward` is one, too."""
    net.second.forward(X)
    assert [("forward Sequential", 1, 2)] == spans(telemetry)


def test_methods_of_a_program(telemetry, net):
    """A loop over inputs is a driver, a generator is left to its consumer: each call counts."""
    net.run([X, X])
    list(net.stream(X))
    assert ["forward Net", "forward Net", "forward Linear", "forward Sequential"] == [
        span[0] for span in spans(telemetry)
    ]


def test_what_is_not_in_the_module(telemetry, net):
    """A module that a method was given has inferences of its own."""
    other = nn.Linear(4, 4).eval()
    net.of_another(other, X)
    assert ["forward Linear", "forward Linear"] == [span[0] for span in spans(telemetry)]


def test_an_error_of_a_part(telemetry, net):
    """It ends the inference at once, though the traceback keeps the frame."""
    with pytest.raises(RuntimeError) as error:
        net.fail_in_a_part(X)
    (span,) = telemetry.spans()
    assert ("fail_in_a_part Net", "RuntimeError") == (span.name, span.attributes["error.type"])
    assert current.get() is NO_SCOPE
    del error


def test_an_error_of_the_method_itself(telemetry, net):
    """The next call finds that the method has left, and is an inference of its own."""
    with pytest.raises(ValueError, match="no") as error:
        net.fail(X)
    net(X)
    assert ["fail Net", "forward Net"] == [span[0] for span in spans(telemetry)]
    del error


def test_a_method_that_recovers(telemetry, net):
    """What follows a part that failed is a further inference."""
    net.recover(X)
    assert ["recover Net", "recover Net"] == [span[0] for span in spans(telemetry)]


def test_the_variables_of_a_method_are_its_own(telemetry, net):
    """One that reads them finds no more than its own, and keeps what it read."""
    assert ["self", "x"] == net.use_locals(X)


def test_nothing_is_kept_alive(telemetry):
    """Neither the module nor its input, once the method has returned."""
    net, x = Net().eval(), torch.ones(2, 4)
    net.encode(x)
    telemetry.spans()
    references = [torch._C._WeakTensorRef(x)]
    del x
    gc.collect()
    assert [True] == [reference.expired() for reference in references]


def test_a_method_lets_go_of_its_variables(net):
    """What it has no more is freed while it runs, as without warpspan."""
    assert [True, True, True] == [net.let_go(torch.ones(2, 4)) for _ in range(3)]


def test_a_call_that_no_python_code_makes(telemetry, net):
    """A thread that begins with the model's call gives its span."""
    done = _thread.allocate_lock()
    done.acquire()
    handle = net.register_forward_hook(lambda *_: done.release())
    _thread.start_new_thread(net, (X,))
    assert done.acquire(timeout=60)
    handle.remove()
    assert [("forward Net", None, 2)] == spans(telemetry)
    assert {} == guard.faults


def test_inside_another_inference(telemetry, net):
    """The parts are steps of that one."""
    with warpspan.inference("request"):
        net.encode(X)
    assert [("request", 2, 2)] == spans(telemetry)


def test_training_and_constructors(telemetry, net):
    """Neither is an inference; a known part that a constructor calls is none either."""
    net.train().forward(X)
    net.eval()
    net.first(X)

    class Around(nn.Module):
        def __init__(self, part):
            super().__init__()
            self.part = part
            part(X)

    Around(net.first)
    assert ["forward Linear"] == [span[0] for span in spans(telemetry)]
    assert {"training", "construction"} <= {
        reason for reason, count in active_tracker().admission.skipped.items() if count
    }


def test_threads(telemetry, net):
    """Each has its own."""
    threads = [threading.Thread(target=net.encode, args=(X,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4 * [("encode Net", 2, 2)] == spans(telemetry)


def test_a_main_loop_by_any_name(telemetry, net, monkeypatch):
    """A method that runs for long ends, and its calls count by themselves from then on."""
    monkeypatch.setattr("warpspan.runtime.callers.LONGEST_NS", -1)
    net.generate(X)
    assert ["generate Net", "forward Net", "forward Net"] == [span[0] for span in spans(telemetry)]


def test_turned_off(uninstrumented, net):
    """Then each part is an inference."""
    uninstrumented.instrument(methods=False)
    net.encode(X)
    assert ["forward Linear", "forward Linear"] == [span[0] for span in spans(uninstrumented)]


def test_an_excluded_class(uninstrumented, net):
    """Its methods are not recorded, as its calls are not."""
    uninstrumented.instrument(excluded_models=["Net"])
    net.encode(X)
    assert [] == spans(uninstrumented)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_and_scripted(telemetry):
    """Nothing of the class is changed: it compiles whole and scripts after its methods were seen."""

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x)

        def twice(self, x):
            return self.layer(self.layer(x))

    model = Plain().eval()
    before = dict(vars(Plain))
    expected = model.twice(X)
    assert before == dict(vars(Plain))
    compiled = torch.compile(model.twice, backend="eager", fullgraph=True)
    assert torch.equal(expected, compiled(X))
    assert torch.equal(model(X), torch.jit.script(model)(X))
    assert "twice Plain" == telemetry.spans()[0].name
