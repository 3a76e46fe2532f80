"""stable-baselines3: the actions of a policy that was not trained."""

import numpy as np
from stable_baselines3 import PPO

model = PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu", n_steps=8, batch_size=8)
for _ in range(3):
    action, _ = model.predict(np.zeros(4, dtype=np.float32), deterministic=True)
print(action.shape)
