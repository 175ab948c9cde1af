"""Guides: value functions, vocabulary-wide heads, reward models, functions on texts, sums."""
