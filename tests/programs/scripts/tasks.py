"""Celery: a worker in this process takes tasks from a broker in memory."""

import torch
from celery import Celery
from celery.contrib.testing.worker import start_worker

torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Linear(4, 2).eval()
app = Celery("tasks", broker="memory://", backend="cache+memory://")
app.conf.worker_hijack_root_logger = False


@app.task(name="predict")
def predict(batch):
    """One inference a task."""
    with torch.inference_mode():
        return list(model(torch.ones(batch, 4)).shape)


with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
    for batch in (1, 2):
        print(predict.delay(batch).get(timeout=60))
