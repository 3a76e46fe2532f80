"""The labels of metrics: made once for each combination, and bounded however many names come."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, TypeAlias

from warpspan import guard
from warpspan.records import GenAi, start_attributes
from warpspan.signals import names

_logger = logging.getLogger("warpspan")

#: Names of one attribute that metrics keep apart.
NAME_LIMIT = 200
#: Combinations of names that metrics keep apart: 200 operations of 200 models are too many.
COMBINATION_LIMIT = 1000
OTHER = "other"
#: The value that OpenTelemetry's conventions give to an error without a class of its own.
OTHER_ERROR = "_OTHER"

_Key: TypeAlias = tuple[Any, ...]


class Labels:
    """The labels of some inferences: equal ones are the same object, and none is ever changed.

    Args:
        attributes: operation, model, device and error.
        error_type: the error as metrics name it.
    """

    __slots__ = ("_more", "attributes", "error_type")

    def __init__(self, attributes: dict[str, Any], error_type: str | None) -> None:
        self.attributes = attributes
        self.error_type = error_type
        self._more: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}

    def and_also(self, own: tuple[tuple[str, str], ...]) -> dict[str, Any]:
        """These labels and those of a metric's own, of which there are few values."""
        more = self._more.get(own)
        if more is None:
            more = self._more.setdefault(own, {**self.attributes, **dict(own)})
        return more


class BoundedLabels(dict[_Key, Labels]):
    """The labels of inferences, by operation, name of the model, device and class of the error.

    Looking up new names makes their labels. A name beyond the limits is `other`, and counted in
    `folded`: a series is never given back, neither here nor in the SDK, so names that are made from
    requests or users must not become series. Spans keep the true names.
    """

    def __init__(self) -> None:
        #: Inferences with an attribute that is `other`, by its name. `warpspan.labels.folded`.
        self.folded: Counter[str] = Counter()
        self._names: dict[str, set[str]] = {}
        self._gen_ai: dict[_Key, dict[str, Any]] = {}

    def of_gen_ai(self, gen_ai: GenAi, error_type: str | None) -> dict[str, Any]:
        """The labels of the metrics of OpenTelemetry's GenAI conventions.

        Args:
            gen_ai: what the conventions call the inference.
            error_type: its error as `Labels` names it.
        """
        key = (gen_ai.operation, gen_ai.provider, gen_ai.request_model, error_type)
        known = self._gen_ai.get(key)
        if known is None:
            full = len(self._gen_ai) >= COMBINATION_LIMIT
            model = self._name(names.GEN_AI_REQUEST_MODEL, gen_ai.request_model, OTHER, full=full)
            key = (gen_ai.operation, gen_ai.provider, model, error_type)
            named = zip(_GEN_AI, key, strict=True)
            made = {name: value for name, value in named if value is not None}
            known = self._gen_ai.setdefault(key, made)
        return known

    def __missing__(self, key: _Key) -> Labels:
        """The labels of names that come for the first time, or are not kept apart."""
        operation, model, device, error_type = key
        full = len(self) >= COMBINATION_LIMIT
        operation = self._name(names.PYTORCH_OPERATION_NAME, operation, OTHER, full=full)
        model = self._name(names.PYTORCH_MODEL_NAME, model, OTHER, full=full)
        error_type = self._name(names.ERROR_TYPE, error_type, OTHER_ERROR, full=full)
        known = self.get((operation, model, device, error_type))
        if known is None:
            attributes: dict[str, Any] = start_attributes(operation or OTHER, model, device)
            if error_type is not None:
                attributes[names.ERROR_TYPE] = error_type
            known = self[operation, model, device, error_type] = Labels(attributes, error_type)
        return known

    def _name(self, attribute: str, name: str | None, other: str, *, full: bool) -> str | None:
        """A name as metrics have it: itself, or `other` where there are too many."""
        known = self._names.setdefault(attribute, set())
        if name is None or (name in known and not full):
            return name
        if len(known) < NAME_LIMIT and not full:
            known.add(name)
            return name
        self.folded[attribute] += 1
        if self.folded[attribute] == 1:
            _log(attribute, other)
        return other


_GEN_AI = (
    names.GEN_AI_OPERATION_NAME,
    names.GEN_AI_PROVIDER_NAME,
    names.GEN_AI_REQUEST_MODEL,
    names.ERROR_TYPE,
)


def _log(attribute: str, other: str) -> None:
    try:
        _logger.warning(
            "warpspan: %s has too many values for metrics, so new ones are recorded as `%s` "
            "(logged once, counted in warpspan.labels.folded); spans keep them",
            attribute,
            other,
        )
    except Exception as error:  # of a logging handler of the host
        guard.caught("metrics", error)
