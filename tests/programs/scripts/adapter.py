"""peft: text from a GPT-2 of the smallest size with a LoRA adapter."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
base = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=32,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=32,
        eos_token_id=None,
        bos_token_id=0,
        pad_token_id=0,
    )
)
config = LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
model = get_peft_model(base, config).eval()
ids = torch.ones(2, 5, dtype=torch.long)
print(tuple(model.generate(input_ids=ids, max_new_tokens=4, do_sample=False).shape))
