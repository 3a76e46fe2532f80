"""CUDA graphs: what was captured into each, so that a replay can say what it ran."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import torch

from warpspan.probes.inputs import Seen
from warpspan.probes.model import ModelInfo


class Graph:
    """What is known of one graph.

    Args:
        device: where it was captured, which is where it runs; None where that was not seen.
    """

    __slots__ = ("_calls", "_models", "_seen", "device", "excluded", "start", "training")

    def __init__(self, device: torch.device | None) -> None:
        self.device = device
        #: A model that the user excluded is in it.
        self.excluded = False
        #: A model in training mode, with gradients, is in it.
        self.training = False
        #: The tracker's note: where replays run, the name and attributes of their spans.
        self.start: tuple[Any, str, dict[str, Any]] | None = None
        self._models: dict[str, ModelInfo] = {}
        self._seen: Seen | None = None
        self._calls = 0

    def called(self, model: ModelInfo, seen: Seen | None, *, training: bool) -> None:
        """A module call that nothing covers was captured."""
        self.training = self.training or training
        if not (model.has_state or model.recorded):
            return  # an activation or a loss
        self.excluded = self.excluded or not model.recorded
        self._models[model.name] = model
        self._seen = seen
        self._calls += 1

    @property
    def model(self) -> ModelInfo | None:
        """The one model in it; None where there is none or several."""
        return next(iter(self._models.values())) if len(self._models) == 1 else None

    @property
    def seen(self) -> Seen | None:
        """The input of its one module call, whose shape is the same in each replay."""
        return self._seen if self._calls == 1 else None


class Graphs:
    """The graphs of this process. Dead ones are forgotten, none is kept alive."""

    def __init__(self) -> None:
        self._graphs: dict[int, tuple[weakref.ref[Any], Graph]] = {}
        #: Captures under way, by the thread that began them.
        self.open: dict[int, Graph] = {}

    def began(self, graph: Any) -> None:
        """The calling thread captures into a graph from now on."""
        device = torch.device("cuda", torch.cuda.current_device())
        self.open[threading.get_ident()] = self._add(graph, Graph(device))

    def ended(self) -> None:
        """The calling thread's capture ended."""
        self.open.pop(threading.get_ident(), None)

    def here(self) -> Graph | None:
        """The graph that takes what the calling thread enqueues now, None where it is run."""
        graph = self.open.get(threading.get_ident())
        # The thread may also work on a stream that has no part in its capture.
        if graph is not None and not torch.cuda.is_current_stream_capturing():
            return None
        return graph

    def of(self, graph: Any) -> Graph:
        """What is known of a graph: nothing where it was captured while nobody looked."""
        found = self._graphs.get(id(graph))
        return self._add(graph, Graph(None)) if found is None else found[1]

    def _add(self, graph: Any, known: Graph) -> Graph:
        key, graphs = id(graph), self._graphs
        graphs[key] = weakref.ref(graph, lambda _: graphs.pop(key, None)), known
        return known
