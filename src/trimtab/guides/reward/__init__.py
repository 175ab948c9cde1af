"""Reward models of transformers as guides.

`guide` picks how a model reads; `heads` says which of its outputs is the reward; `chat_template`
puts a prompt and a response into its template; `retokenised` and `pairs` read text where the ids
are not the base's.
"""

from trimtab.guides.reward.guide import RewardGuide

__all__ = ["RewardGuide"]
