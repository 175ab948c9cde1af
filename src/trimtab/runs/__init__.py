"""Runs: what names mean, what they are known by, and how batches of prompts are decoded."""
