"""Settings by anybody's hand: one clear line that names the setting, or a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mutations import mutations
from trimtab.errors import UsageError
from trimtab.training.config import TrainConfig, make_config, read_config
from trimtab.training.objectives import OBJECTIVES, objective

WHOLE = make_config({"objective": "td-lambda", "data": "rollouts", "out": "guide"}).as_dict()


@settings(max_examples=120, deadline=None, database=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(mutations({**WHOLE, "settings": {"lambda_": 0.9}}))
def test_tampered_settings_are_a_usage_error_or_a_config(values: dict[str, Any]) -> None:
    said = ""
    try:
        found = make_config(values)
        assert make_config(json.loads(json.dumps(found.as_dict()))) == found
    except UsageError as error:
        said = str(error)
    assert "\n" not in said
    assert not said or any(name in said for name in [*values, "objective", "data", "out"])


@settings(max_examples=60, deadline=None, database=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [b"&a [*a]", b"objective: 2024-01-01\ndata: x\nout: y", b"!!python/object:os.system {}",
             b"? [1]\n: 2", b"1: 2", b"objective: td-lambda\ndata: {a: b}\nout: x", b"[" * 5000,
             b"objective: td-lambda\ndata: x\nout: y\nlr: {a: 1}",
             b"objective: td-lambda\ndata: x\nout: y\nsettings: &s {x: *s}",
             b"objective: td-lambda\ndata: x\nout: y\nlr: .nan"]
        ),
        mutations(WHOLE).map(lambda values: yaml.dump(values).encode("utf-8", "replace")),
    )
)  # fmt: skip
def test_any_file_is_a_usage_error_or_a_config(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "train.yaml"
    path.write_bytes(data)
    said = ""
    try:
        assert isinstance(read_config(path), TrainConfig)
    except UsageError as error:
        said = str(error)
    assert "\n" not in said


def test_every_setting_has_its_check() -> None:
    with pytest.raises(UsageError, match="a training setting"):
        make_config({**WHOLE, "novel": 1})
    for name in WHOLE:
        with pytest.raises(UsageError, match=name):
            make_config({**WHOLE, name: {"no": ["such", "thing"]} if name != "settings" else 3})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objectives_own_parameters_are_checked(name: str) -> None:
    for parameter, default in vars(objective(name)).items():
        none = [] if default is None or parameter == "pairs_per_group" else [None]
        for wrong in ("x", *none, [1], float("nan")):
            with pytest.raises(UsageError, match=parameter):
                objective(name, **{parameter: wrong})
