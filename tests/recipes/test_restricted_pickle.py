"""The unpickler of the recipes makes plain data, and nothing of anyone else's."""

from __future__ import annotations

import collections
import os
import pickle
import subprocess

import pytest

from recipes.restricted_pickle import Bare, read


class Evil:
    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


class Named:
    def __init__(self) -> None:
        self.weight = 3


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.system, "true"),
        Evil(eval, "1"),
        Evil(getattr, "a", "b"),
        Evil(subprocess.run, "true"),
        Named(),
    ],
)
def test_what_is_not_on_the_list_is_refused(evil: object, protocol: int) -> None:
    with pytest.raises(pickle.UnpicklingError, match="is not on the list of this recipe"):
        read(pickle.dumps({"x": [evil]}, protocol), ())


def test_a_named_class_becomes_bare_attributes() -> None:
    got = read(pickle.dumps(Named()), {(Named.__module__, "Named")})
    assert type(got) is Bare
    assert got.weight == 3


def test_an_allowed_name_is_never_called_as_itself() -> None:
    """Even a dangerous function on the list is only `Bare`."""
    got = read(pickle.dumps(Evil(os.system, "exit 1")), {(os.system.__module__, "system")})
    assert type(got) is Bare
    assert got.args == ("exit 1",)


def test_plain_containers_pass() -> None:
    value = {"a": [1, 2.5, None, b"x"], "b": collections.OrderedDict(c=(1, "d"))}
    assert read(pickle.dumps(value), ()) == value
