"""Manifests by anybody's hand: one clear line that names the field, or a guide."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import trimtab as tt
from tests import toys
from tests.mutations import mutations
from trimtab.errors import CheckpointError, IncompatibleError, UsageError
from trimtab.guides import Clamp, LogSigmoid, Manifest, shipped_guides, verify
from trimtab.guides.cached import HEADS, head_sizes
from trimtab.guides.checkpoint import head_spec
from trimtab.inspection.audit import audit_card
from trimtab.inspection.report import facts_of
from trimtab.inspection.scores import units_of


def known() -> dict[str, Any]:
    """What a real manifest says of its training."""
    manifest = json.loads((shipped_guides()["sentiment"] / "guide.json").read_text())
    found = {name: manifest[name] for name in ("objective", "data", "reward")}
    found["objective"]["validation"]["constant"] = 0.6
    found["data"]["counts"] = [
        {"what": "responses", "read": 3, "kept": 2, "left_out": {"too long": 1}}
    ]
    return found


LM = toys.language_model()
GUIDE = Clamp(LogSigmoid(toys.value_guide(vocab=LM.vocab)), -5.0, 0.0)


def save(folder: Path, storage: Any = "full") -> dict[str, Any]:
    tt.save_guide(GUIDE, folder, storage=storage, base="smollm2", overwrite=True, **known())
    body: dict[str, Any] = json.loads((folder / "guide.json").read_text())
    return {name: value for name, value in body.items() if name != "sha256"}


def put(folder: Path, body: Any) -> None:
    """A manifest with a sum of its own that fits."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    whole = {**body, "sha256": digest} if isinstance(body, dict) else body
    (folder / "guide.json").write_text(json.dumps(whole))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifests") / "guide"


@pytest.mark.parametrize("storage", ["full", "base"])
def test_a_tampered_manifest_is_a_checkpoint_error_or_a_guide(place: Path, storage: str) -> None:
    """One change anywhere: dropped, of another type, out of range, added."""
    body = save(place, storage)
    tried: set[str] = set()  # opening a network takes longer than all the rest

    @settings(max_examples=70, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(mutations(body))
    @example(body)
    def holds(manifest: dict[str, Any]) -> None:
        put(place, manifest)
        said = ""
        try:
            use(manifest, verify(place))
        except CheckpointError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 1000

    def use(manifest: dict[str, Any], found: Manifest) -> None:
        assert facts_of(found, None)
        units_of(found)
        audit_card(found, LM)
        core = json.dumps({k: v for k, v in manifest.items() if k not in known()}, sort_keys=True)
        if core not in tried:
            tried.add(core)
            with suppress(IncompatibleError, UsageError):  # another base, which is not here
                assert tt.load_guide(place, lm=LM).vocab is not None

    holds()


@pytest.mark.parametrize(
    ("at", "value", "must"),
    [
        (("head",), "scalar", "head must be an object of names and values; got 'scalar'"),
        (("head", "hidden"), "32", "head.hidden must be a whole number, 1 to 1048576; got '32'"),
        (("head", "hidden"), True, "head.hidden must be a whole number"),
        (("head", "depth"), 2, "head must have no names but kind, hidden; got 'depth'"),
        (("head",), {"kind": "vocabulary", "hidden": 32, "vocabulary": 97},
         "head.kind must be scalar of a value guide, and of no other; got 'vocabulary'"),
        (("vocab",), [97], "vocab must be an object of names and values"),
        (("vocab", "size"), 10**30, "vocab.size must be a whole number"),
        (("files",), ["guide.json"], "files must be an object of names and values"),
        (("files", "head.safetensors"), None, "files.head.safetensors must be an object"),
        (("files", "a\0b"), {"sha256": "", "bytes": 0}, "must be a text that can be written"),
        (("files", "/etc/passwd"), {"sha256": "", "bytes": 0}, "no file outside the folder"),
        (("transforms",), None, "transforms must be a list; got None"),
        (("transforms", 1, "low"), float("nan"), r"transforms\[1\].low must be a finite number"),
        (("transforms", 1, "high"), 1e999, r"transforms\[1\].high must be a finite number"),
        (("transforms", 1, "low"), 3, r"transforms\[1\].low must be below high; got 3 and 0.0"),
        (("name",), ["x"], r"name must be a text; got \['x'\]"),
        (("name",), "\ud800", "name must be a text that can be written"),
        (("dtype",), "int8", "dtype must be one of float32, float16, .*; got 'int8'"),
        (("implementation",), "org/kernel", "implementation must be one of eager, sdpa"),
        (("attention",), "forest", "attention must be one of tree, expanded; got 'forest'"),
        (("causal",), "no", "causal must be true or false; got 'no'"),
        (("adapter",), True, "files must name adapter/adapter_config.json"),
        (("objective", "validation"), [0.3], "objective.validation must be an object"),
        (("objective", "lr"), "fast", "objective.lr must be a number; got 'fast'"),
        (("data", "sources"), "rollouts", "data.sources must be a list; got 'rollouts'"),
        (("reward", "std"), 0, "reward.std must be a number, above 0; got 0"),
        (("format",), True, "must be of format 1; got True"),
    ],
)  # fmt: skip
def test_the_field_is_named_and_what_it_must_be(
    tmp_path: Path, at: tuple[Any, ...], value: Any, must: str
) -> None:
    body: Any = save(tmp_path / "guide")
    inner = body
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    put(tmp_path / "guide", body)
    with pytest.raises(CheckpointError, match=must) as error:
        tt.load_guide(tmp_path / "guide")
    assert "guide.json" in str(error.value)


@settings(max_examples=60, deadline=None, database=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"[]", b"null", b"3", b'"x"', b"[" * 10**5, b'{"a":' * 10**5, b"\xff{}"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=5,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_lies_under_a_manifests_name_is_read_or_refused(place: Path, data: bytes) -> None:
    place.mkdir(exist_ok=True)
    (place / "guide.json").write_bytes(data)
    with pytest.raises(CheckpointError, match="guide.json must be"):
        verify(place)


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="manifest: reward.std must be a number, above 0; got -1"):
        tt.save_guide(toys.value_guide(), tmp_path / "g", reward={"std": -1})
    with pytest.raises(UsageError, match="manifest: data.loss must be a finite number; got nan"):
        tt.save_guide(toys.value_guide(), tmp_path / "g", data={"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_shipped_manifests_are_in_order() -> None:
    for at in shipped_guides().values():
        assert verify(at).name == at.name


@pytest.mark.parametrize("kind", HEADS)
def test_every_kind_of_head_is_made_from_what_is_said_of_it(kind: str) -> None:
    known = {"hidden": 3, "vocabulary": 2, "embedding": 4, "width": 5}
    sizes = {name: known[name] for name in head_sizes(kind)}
    assert head_spec(HEADS[kind](**sizes)) == {"kind": kind, **sizes}
