"""PyTorch Geometric: one graph, and a batch of three."""

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCN, global_mean_pool


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = GCN(4, 8, num_layers=2)
        self.out = torch.nn.Linear(8, 2)

    def forward(self, data):
        return self.out(global_mean_pool(self.network(data.x, data.edge_index), data.batch))


torch.manual_seed(0)
edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
graph = Data(x=torch.zeros(7, 4), edge_index=edges)
with torch.inference_mode():
    print(tuple(GCN(4, 8, num_layers=2).eval()(graph.x, graph.edge_index).shape))
    print(tuple(Classifier().eval()(Batch.from_data_list([graph] * 3)).shape))
