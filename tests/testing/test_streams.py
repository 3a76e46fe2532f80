"""Streams, events and graphs of a scripted device."""

import threading

import pytest
import torch

from warpspan.testing import ScriptedDevice

UNRECORDED = (RuntimeError, ValueError)  # by torch's version


def timed():
    return torch.cuda.Event(enable_timing=True)


def now_s(device, start_ns):
    return (device.clock.now_ns() - start_ns) / 1e9


def in_thread(function):
    """The result of a function on another thread, or the exception that left it."""
    results = []

    def run():
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run, name="other")
    thread.start()
    thread.join()
    return results[0]


def test_work_starts_when_the_stream_is_free(device):
    """Kernels run one after the other, never before the host enqueued them."""
    a, b, c = timed(), timed(), timed()
    a.record()
    device.launch(0.5)
    device.launch(0.25)
    b.record()
    device.clock.advance(2.0)  # idle from 0.75 s to 2 s
    device.launch(1.0)
    c.record()
    device.complete()
    assert (750.0, 3000.0, 2250.0) == (a.elapsed_time(b), a.elapsed_time(c), b.elapsed_time(c))


def test_an_event_completes_with_the_work_before_it(device):
    """`query` turns True when the clock passes the end of the stream; it never moves the clock."""
    start_ns = device.clock.now_ns()
    event = torch.cuda.Event()
    assert event.query()  # never recorded
    event.record()
    assert event.query()  # an idle stream
    device.launch(1.0)
    event.record()
    assert (False, False) == (event.query(), torch.cuda.current_stream().query())
    device.clock.advance(0.999999)
    assert not event.query()
    device.clock.advance(0.000001)
    assert (True, True) == (event.query(), torch.cuda.current_stream().query())
    assert 1.0 == now_s(device, start_ns)
    assert {} == dict(device.synchronizations)
    assert {"Event.query", "Stream.query"} == {call.name for call in device.calls}


def test_elapsed_time_of_events_without_a_time(device):
    """Untimed, unrecorded and incomplete events raise what torch raises."""
    a, b = timed(), timed()
    with pytest.raises(UNRECORDED, match="must be recorded before calculating"):
        a.elapsed_time(b)
    with pytest.raises(UNRECORDED, match="enable_timing=True"):
        a.elapsed_time(torch.cuda.Event())
    a.record()
    device.launch(1.0)
    b.record()
    with pytest.raises(RuntimeError, match="must be completed before calculating"):
        a.elapsed_time(b)
    b.synchronize()
    assert 1000.0 == a.elapsed_time(b)


def test_unrecorded_events_raise_as_the_real_ones():
    """The class and text for unrecorded events are those of this torch."""
    real, scripted = torch.cuda.Event, []
    with ScriptedDevice():
        scripted = timed(), timed()
        with pytest.raises(UNRECORDED) as ours:
            scripted[0].elapsed_time(scripted[1])
    with pytest.raises(UNRECORDED) as theirs:
        real(enable_timing=True).elapsed_time(real(enable_timing=True))
    assert (theirs.type, str(theirs.value)) == (ours.type, str(ours.value))


def test_streams_overlap_and_wait_for_each_other(device):
    """Streams work side by side; an event or `wait_stream` orders them."""
    one, two = torch.cuda.Stream(), torch.cuda.Stream()
    begin, end_one, end_two, joined = timed(), timed(), timed(), timed()
    begin.record()
    device.launch(1.0, one)
    device.launch(3.0, two)
    end_one.record(one)
    end_two.record(two)
    with torch.cuda.stream(one):
        assert one == torch.cuda.current_stream()
        end_two.wait()
        device.launch(0.5)
        joined.record()
    torch.cuda.current_stream().wait_stream(one)
    device.launch(0.25)
    last = torch.cuda.current_stream().record_event(timed())
    device.complete()
    assert [1000.0, 3000.0, 3500.0, 3750.0] == [
        begin.elapsed_time(event) for event in (end_one, end_two, joined, last)
    ]


def test_whoever_synchronizes_waits(device):
    """Each synchronizing call moves the clock to the end of what it waits for, and is logged."""
    start_ns = device.clock.now_ns()
    side = torch.cuda.Stream()
    event = torch.cuda.Event()
    device.launch(1.0)
    event.record()
    device.launch(1.0)
    device.launch(5.0, side)
    event.synchronize()
    assert 1.0 == now_s(device, start_ns)
    torch.cuda.current_stream().synchronize()
    assert 2.0 == now_s(device, start_ns)
    in_thread(torch.cuda.synchronize)
    assert 5.0 == now_s(device, start_ns)
    side.synchronize()
    assert [
        ("Event.synchronize", "MainThread", 1.0),
        ("Stream.synchronize", "MainThread", 1.0),
        ("torch.cuda.synchronize", "other", 3.0),
        ("Stream.synchronize", "MainThread", 0.0),
    ] == [call[:3] for call in device.calls]
    assert {"MainThread": 3, "other": 1} == dict(device.synchronizations)


def test_each_thread_has_its_device_and_stream():
    """Current device and stream are the thread's own, as set by torch's context managers."""
    with ScriptedDevice(count=2):
        side = torch.cuda.Stream(device=1)
        with torch.cuda.device(1), torch.cuda.stream(side):
            assert (1, side) == (torch.cuda.current_device(), torch.cuda.current_stream())
            assert torch.device("cuda", 1) == torch.ones(1, device="cuda").device
            others = in_thread(
                lambda: (torch.cuda.current_device(), torch.cuda.current_stream(1).cuda_stream)
            )
            assert (0, 0) == others
        assert (0, 0) == (torch.cuda.current_device(), torch.cuda.current_stream(1).cuda_stream)
        with side:
            assert side == torch.cuda.current_stream()
        torch.cuda.set_device(1)
        assert (1, torch.cuda.default_stream()) == (
            torch.cuda.current_device(),
            torch.cuda.current_stream(),
        )
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            torch.cuda.set_device(2)


def test_capture_is_the_streams_state(device):
    """A stream is capturing inside the block only, and a captured event can't be read."""
    event = timed()
    with device.capturing() as capture:
        assert torch.cuda.is_current_stream_capturing()
        assert in_thread(torch.cuda.is_current_stream_capturing)  # the same default stream
        device.launch(0.5)
        event.record()
    assert not torch.cuda.is_current_stream_capturing()
    assert ([capture], False, 0.5) == (device.captures, capture.invalidated, capture.duration_s)
    with pytest.raises(RuntimeError, match="last recorded in a capturing stream"):
        event.query()
    assert torch.cuda.current_stream().query()  # captured work was never enqueued


@pytest.mark.parametrize(
    ("mode", "where", "breaks"),
    [
        ("global", "same", True),
        ("global", "other", True),
        ("thread_local", "same", True),
        ("thread_local", "other", False),
        ("relaxed", "same", False),
        ("relaxed", "other", False),
    ],
)
def test_a_query_breaks_a_capture(device, mode, where, breaks):
    """In global mode a query on any thread breaks the capture, in thread-local mode its own."""
    event = torch.cuda.Event()
    event.record()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side), device.capturing(mode):
        if where == "other":
            answer = in_thread(event.query)
        else:
            try:
                answer = event.query()
            except RuntimeError as error:
                answer = error
    assert breaks == device.captures[-1].invalidated
    expected = "CUDA error: operation not permitted when stream is capturing"
    assert (expected if breaks else "True") == str(answer)


@pytest.mark.parametrize(
    "wait",
    [
        torch.cuda.synchronize,
        lambda: torch.cuda.current_stream().synchronize(),
        lambda: torch.ones(1, device="cuda").item(),
    ],
)
def test_a_synchronization_breaks_a_capture(device, wait):
    """So does every call that would wait, and the end of the capture says so."""
    graph = torch.cuda.CUDAGraph()
    with (
        pytest.raises(RuntimeError, match="failed due to a previous error during capture"),
        torch.cuda.graph(graph),
        pytest.raises(RuntimeError, match="not permitted when stream is capturing"),
    ):
        wait()
    assert device.captures[-1].invalidated
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        graph.replay()
    assert not torch.cuda.is_current_stream_capturing()


@torch.inference_mode()
def test_a_graph_computes_again_and_takes_its_time(device):
    """A replay gives the results for the new input, and enqueues what was captured."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    new = torch.randn(3, 4)
    expected = model(new)
    model.to("cuda")
    x = torch.zeros(3, 4, device="cuda")
    device.op_time_s = 1e-3
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = model(x)
    x.copy_(new)
    torch.cuda.synchronize()
    begin, end = timed(), timed()
    begin.record()
    graph.replay()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    assert torch.equal(expected, y.cpu())
    assert 3e-3 == device.captures[-1].duration_s  # two Linear, one ReLU
    assert 6.0 == begin.elapsed_time(end)


@torch.inference_mode()
def test_a_stream_that_joins_a_capture(device):
    """Work of a second stream is part of the capture when it waits for the first."""
    side = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        side.wait_stream(torch.cuda.current_stream())
        device.launch(0.5, side)
        with torch.cuda.stream(side):
            assert torch.cuda.is_current_stream_capturing()
        torch.cuda.current_stream().wait_stream(side)
    assert 0.5 == device.captures[-1].duration_s
    with torch.cuda.stream(side):
        assert not torch.cuda.is_current_stream_capturing()


def test_a_graph_is_not_captured_on_the_default_stream(device):
    """As on a real device, and a mode that does not exist is refused."""
    with pytest.raises(RuntimeError, match="must be captured on a non-default stream"):
        torch.cuda.CUDAGraph().capture_begin()
    with (
        torch.cuda.stream(torch.cuda.Stream()),
        pytest.raises(RuntimeError, match=r"Unknown capture error mode.*got none"),
    ):
        torch.cuda.CUDAGraph().capture_begin(capture_error_mode="none")
