"""Base models: what proposes candidates, with their log-probabilities under pi_ref."""
