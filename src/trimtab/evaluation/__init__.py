"""Measuring: metrics, statistics, cost, and what they compare."""
