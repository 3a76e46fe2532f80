"""A service by LitServe: one process for HTTP, one for the model."""

import sys

import litserve
import torch


class Service(litserve.LitAPI):
    """One inference a request."""

    def setup(self, device):
        torch.set_num_threads(1)
        self.model = torch.nn.Linear(4, 2).eval()

    def decode_request(self, request):
        return torch.ones(3, 4)

    def predict(self, x):
        with torch.inference_mode():
            return self.model(x)

    def encode_response(self, output):
        return {"shape": list(output.shape)}


if __name__ == "__main__":
    server = litserve.LitServer(Service(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
