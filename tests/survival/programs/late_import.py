"""A program whose forked worker is the first to import torch."""

import multiprocessing
import sys


def work():
    import torch

    model = torch.nn.Linear(4, 4).eval()
    with torch.no_grad():
        model(torch.ones(2, 4))


if __name__ == "__main__":
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
    assert "torch" not in sys.modules
    sys.exit(worker.exitcode)
