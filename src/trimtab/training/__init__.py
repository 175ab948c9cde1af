"""From a reward to a guide: rollouts, returns, objectives, and one trainer for all of them."""
