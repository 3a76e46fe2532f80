"""Pickles classes of this program that override what warpspan wraps, and prints them in hexadecimal."""

import copy
import json
import sys

import cloudpickle
import dill
import torch
from transformers import GenerationMixin, Pipeline

from warpspan import WarpspanInstrumentor

WarpspanInstrumentor().instrument()


class Adder(GenerationMixin):
    def generate(self, number, *, more=1):
        return number + more


class Shouter(Pipeline):
    def __init__(self):
        pass

    def _sanitize_parameters(self, **_):
        return {}, {}, {}

    def preprocess(self, text):
        return text.upper()

    def _forward(self, text):
        return text

    def postprocess(self, text):
        return text + "!"


assert copy.deepcopy(Adder) is Adder
assert 3 == Adder().generate(2)
assert torch.compile(Adder().generate, backend="eager")(2, more=3) == 5
json.dump(
    {
        module.__name__: [module.dumps(cls).hex() for cls in (Adder, Shouter)]
        for module in (cloudpickle, dill)
    },
    sys.stdout,
)
