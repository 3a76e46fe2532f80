"""pytorch-tabnet: a row's class by a network of one step of training."""

import numpy as np
from pytorch_tabnet.tab_model import TabNetClassifier

rng = np.random.default_rng(0)
x, y = rng.normal(size=(64, 4)).astype(np.float32), np.arange(64) % 2
model = TabNetClassifier(verbose=0, seed=0, n_steps=2)
model.fit(x, y, max_epochs=1, batch_size=32, virtual_batch_size=32)
print(model.predict_proba(x[:5]).shape)
