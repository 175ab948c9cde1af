"""Preferences: pairs of responses, the better one first, that reward-model guides are trained on.

A preference is a `Group` of two responses: the chosen one with the reward "preference" 1, the
rejected one with 0. Human preferences are read from rows (`read_preferences`); rewards make them
of any group (`pairs_of`).
"""

from trimtab.training.preferences.pairs import clean, pairs_of, prefix_subset
from trimtab.training.preferences.reading import read_preferences

__all__ = ["clean", "pairs_of", "prefix_subset", "read_preferences"]
