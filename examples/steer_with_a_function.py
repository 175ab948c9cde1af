"""Any Python function on texts as a reward, read on prefixes: no training, no GPU.

trimtab assets fetch smollm2
python examples/steer_with_a_function.py
"""

import trimtab as tt
from trimtab import rewards

lm = tt.TransformersLM("smollm2", base_temperature=0.7)
guide = tt.TextGuide(
    rewards.on_texts(rewards.find("sentiment")), decode=lm.decode, name="sentiment"
)
prompt = "Write a one sentence opinion about the following topic: winter."

for beta in (0.0, 8.0):
    for done in tt.decode(lm, guide, tt.vas(beta=beta), [prompt], n=2, max_new_tokens=32):
        print(f"beta {beta:3.0f}, {done.kl:5.1f} nats from the base: {done.text}")
