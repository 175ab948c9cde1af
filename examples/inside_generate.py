"""The same Method inside transformers' own `generate`, streamed to the terminal."""

import torch
from transformers import TextStreamer

import trimtab as tt
from trimtab import rewards
from trimtab.integrations import GuidedLogitsProcessor

lm = tt.TransformersLM("smollm2")
guide = tt.TextGuide(
    rewards.on_texts(rewards.find("sentiment")), decode=lm.decode, name="sentiment"
)
prompt = lm.encode("Write a one sentence opinion about the following topic: trains.")
ids = torch.tensor([prompt.ids], device=lm.device)

processor = GuidedLogitsProcessor(guide, tt.args(beta=4.0), prompts=[prompt])
lm.model.generate(  # type: ignore[operator]  # not known to every pretrained model
    ids,
    attention_mask=torch.ones_like(ids),
    max_new_tokens=32,
    logits_processor=[processor],
    streamer=TextStreamer(lm.tokenizer, skip_prompt=True),
    **processor.generate_options,  # choose as the method does
)
