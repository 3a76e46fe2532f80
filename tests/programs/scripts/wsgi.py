"""A service as gunicorn runs it."""

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Linear(4, 2).eval()


def app(environ, start_response):
    """One inference a request."""
    with torch.inference_mode():
        shape = tuple(model(torch.ones(3, 4)).shape)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(shape).encode()]
