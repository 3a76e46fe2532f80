"""Three models in a plain list, behind a module that has no parameters of its own."""

import torch


class Ensemble(torch.nn.Module):
    def __init__(self, models):
        super().__init__()
        self.models = models

    def forward(self, x):
        return torch.stack([model(x) for model in self.models]).mean(0)


torch.manual_seed(0)
ensemble = Ensemble([torch.nn.Linear(4, 2) for _ in range(3)]).eval()
with torch.inference_mode():
    print(tuple(ensemble(torch.ones(5, 4)).shape))
