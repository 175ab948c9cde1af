"""Requests of different strength, and of different mixes of two rewards, in one batch."""

import trimtab as tt
from trimtab import rewards

lm = tt.TransformersLM("smollm2", base_temperature=0.7)
topics = ["rain", "chess", "bread", "taxes"]
prompts = [f"Write a one sentence opinion about the following topic: {t}." for t in topics]

cheerful = tt.TextGuide(
    rewards.on_texts(rewards.find("sentiment")), decode=lm.decode, name="cheerful"
)
brief = tt.TextGuide(lambda _, ts: [-len(t) / 100 for t in ts], decode=lm.decode, name="brief")
mix = tt.WeightedSum([([0.0, 1.0, 0.0, 1.0], cheerful), ([0.0, 0.0, 1.0, 1.0], brief)])

for topic, done in zip(
    topics, tt.decode(lm, mix, tt.vas(beta=6.0), prompts, max_new_tokens=40), strict=True
):
    print(f"{topic:8s} {done.text}")
