"""The laws that the decode loop relies on, for guides and models of your own.

    from trimtab.testing import check_guide, check_model

    check_guide(my_guide, vocab_size=50257)
    check_model(my_model)

The first law that is broken raises a `LawError`: which law, what must hold, what was got.
"""

from trimtab.testing.check import check_guide, check_model
from trimtab.testing.guides import LAWS_OF_GUIDES
from trimtab.testing.models import LAWS_OF_MODELS

__all__ = ["LAWS_OF_GUIDES", "LAWS_OF_MODELS", "check_guide", "check_model"]
