"""The laws that the decode loop relies on, for guides, models, rules and methods of your own.

    from trimtab.testing import check_guide, check_method, check_model, check_rule

    check_guide(my_guide, vocab_size=50257)
    check_model(my_model)
    check_rule(my_rule, tilts=True)
    check_method(my_method)

The first law that is broken raises a `LawError`: which law, what must hold, what was got.
"""

from trimtab.testing.check import check_guide, check_method, check_model, check_rule
from trimtab.testing.guides import LAWS_OF_GUIDES
from trimtab.testing.methods import LAWS_OF_METHODS, LAWS_OF_TILTING_METHODS
from trimtab.testing.models import LAWS_OF_MODELS
from trimtab.testing.rules import LAWS_OF_RULES, LAWS_OF_TILTS

__all__ = [
    "LAWS_OF_GUIDES",
    "LAWS_OF_METHODS",
    "LAWS_OF_MODELS",
    "LAWS_OF_RULES",
    "LAWS_OF_TILTING_METHODS",
    "LAWS_OF_TILTS",
    "check_guide",
    "check_method",
    "check_model",
    "check_rule",
]
