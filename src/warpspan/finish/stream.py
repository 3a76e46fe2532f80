"""The stream of what was measured: finished inferences and samples of devices, to subscribers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from warpspan import guard
from warpspan.records import DeviceSample, Inference

# At one sample in 0.2 s this is a minute and a half of eight devices; a sample is about 0.5 kB.
_SAMPLES = 4096


#: Takes what was started as the span of an inference, and all that is known of the inference. Runs
#: on the finisher's thread.
Subscriber: TypeAlias = Callable[[Any, Inference], None]


class RecordStream:
    """Hands each record to the subscribers in their order, and keeps the latest device samples.

    Args:
        subscribers: by name, which is the origin of their faults. A failure of one is counted, and
            costs no other its record.
    """

    def __init__(self, subscribers: dict[str, Subscriber]) -> None:
        self._subscribers = dict(subscribers)
        #: The latest samples of all devices, oldest first.
        self.samples: deque[DeviceSample] = deque(maxlen=_SAMPLES)

    def subscribe(self, name: str, subscriber: Subscriber) -> None:
        """Hand further records to one more subscriber, after the others."""
        self._subscribers = {**self._subscribers, name: subscriber}

    def unsubscribe(self, name: str) -> None:
        """Hand no further records to the subscriber of a name."""
        self._subscribers = {
            other: subscriber for other, subscriber in self._subscribers.items() if other != name
        }

    def inference(self, span: Any, record: Inference) -> None:
        """Hand on a finished inference."""
        for name, subscriber in self._subscribers.items():
            try:
                subscriber(span, record)
            except Exception as error:
                guard.caught(name, error)

    def sample(self, sample: DeviceSample) -> None:
        """Keep a sample of a device. Runs on the sampler's thread."""
        self.samples.append(sample)
