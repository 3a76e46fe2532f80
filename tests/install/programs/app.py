"""Any program: three inferences of a tiny model, and nothing of telemetry in it."""

import torch

torch.set_num_threads(1)


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 2)

    def forward(self, x):
        return self.linear(x)


if __name__ == "__main__":
    model = Classifier().eval()
    with torch.inference_mode():
        for _ in range(3):
            model(torch.zeros(4, 8))
    print("done")
