"""openai-whisper: half a minute of silence, by a model of the smallest dimensions."""

import torch
import whisper

torch.manual_seed(0)
model = whisper.model.Whisper(
    whisper.ModelDimensions(
        n_mels=80,
        n_audio_ctx=1500,
        n_audio_state=16,
        n_audio_head=2,
        n_audio_layer=1,
        n_vocab=51865,
        n_text_ctx=448,
        n_text_state=16,
        n_text_head=2,
        n_text_layer=1,
    )
).eval()
for _ in range(3):
    found = whisper.transcribe(
        model,
        torch.zeros(16000 * 5),
        language="en",
        fp16=False,
        sample_len=8,
        temperature=0.0,
    )
    print(sorted(found))
