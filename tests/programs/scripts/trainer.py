"""lightning: `Trainer.predict` over two batches."""

import logging

import lightning
import torch


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x)

    def predict_step(self, batch):
        return self(batch)


logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.manual_seed(0)
trainer = lightning.Trainer(
    accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
)
loader = torch.utils.data.DataLoader(torch.zeros(6, 4), batch_size=3)
print(len(trainer.predict(Model(), loader)))
