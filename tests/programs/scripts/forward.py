"""A model whose `forward` is called without `__call__`, as many do."""

import torch


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(100, 8)
        self.hidden = torch.nn.Linear(8, 8)
        self.out = torch.nn.Linear(8, 2)

    def forward(self, ids):
        return self.out(self.hidden(self.embedding(ids)).mean(1))


torch.manual_seed(0)
model = Classifier().eval()
with torch.no_grad():
    for _ in range(3):
        print(tuple(model.forward(torch.zeros(2, 7, dtype=torch.long)).shape))
