"""Guides on disk: the same scores bit for bit, or one clear line."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from trimtab.errors import CheckpointError, IncompatibleError, OutputError, UsageError
from trimtab.guides import Identity, ScalarHead, Transform, checkpoint, verify
from trimtab.types import Candidates, Vocab


def scores(guide: Any) -> list[torch.Tensor]:
    """Two steps of scores."""
    state = guide.prefill(toys.prompts(4, 9))
    tokens = torch.tensor([[5, 6, 7], [8, 9, 10]])[..., None]
    one = torch.ones(2, 3, dtype=torch.int64)
    cand = Candidates(tokens, torch.full((2, 3), -1.0), one, one == 0)
    first = guide.score(state, cand)
    state = guide.extend(state, tokens[:, 1], one[:, 0])
    return [first, guide.score(state, cand)]


def assert_same(a: Any, b: Any) -> None:
    for x, y in zip(scores(a), scores(b), strict=True):
        assert torch.equal(x, y)


GUIDES: dict[str, Callable[[], Any]] = {
    "value": toys.value_guide,
    "value, gpt2": lambda: toys.value_guide("gpt2"),
    "value, 2 layers": lambda: toys.value_guide("gemma3_text", layers=2),
    "vocabulary": toys.vocabulary_guide,
    "dueling": lambda: toys.vocabulary_guide(dueling=True),
    "log-probabilities": toys.causal_guide,
    "identity": lambda: tt.VocabularyGuide(toys.causal_lm("llama"), Identity(), name="q"),
    "wrapped": lambda: tt.Center(tt.Clamp(tt.LogSigmoid(toys.value_guide()), -0.7, -0.5)),
}


@dataclass(frozen=True)
class Doubled(Transform):
    """A transform that no manifest can spell."""

    def transform(self, scores: torch.Tensor) -> torch.Tensor:
        return 2 * scores


def test_a_transform_of_ones_own_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got Doubled; save the guide inside it"):
        tt.save_guide(Doubled(toys.value_guide()), tmp_path / "guide")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", GUIDES)
def test_the_same_scores_bit_for_bit(name: str, tmp_path: Path) -> None:
    guide = GUIDES[name]()
    folder = tt.save_guide(guide, tmp_path / "guide")
    before = torch.get_rng_state()
    loaded = tt.load_guide(folder)
    assert torch.equal(before, torch.get_rng_state())
    assert_same(guide, loaded)
    assert repr(loaded) == repr(guide)
    assert [p.name for p in tmp_path.iterdir()] == ["guide"]


def test_half_precision(tmp_path: Path) -> None:
    net = copy.deepcopy(toys.backbone()).to(torch.bfloat16)
    head = ScalarHead(32, bias=0.5).to(torch.bfloat16)
    torch.nn.init.normal_(head.linear.weight)
    guide = tt.ValueGuide(net, head)
    loaded = tt.load_guide(tt.save_guide(guide, tmp_path / "g"))
    assert_same(guide, loaded)
    assert isinstance(loaded, tt.ValueGuide)
    assert loaded.backbone.dtype == loaded.head.linear.weight.dtype == torch.bfloat16


def test_on_top_of_the_base(tmp_path: Path) -> None:
    lm = toys.language_model()
    guide = tt.ValueGuide(lm.model.base_model, toys.value_guide().head, layers=2)
    folder = tt.save_guide(guide, tmp_path / "g", storage="base")
    assert sorted(p.name for p in folder.iterdir()) == ["guide.json", "head.safetensors"]
    assert_same(guide, tt.load_guide(folder, lm=lm))
    assert_same(guide, tt.load_guide(folder, backbone=lm.model.base_model))
    with pytest.raises(UsageError, match="stands on its base's layers; got no base"):
        tt.load_guide(folder)
    with pytest.raises(IncompatibleError, match="model_type 'llama'; got one with 'gpt2'"):
        tt.load_guide(folder, backbone=toys.backbone("gpt2"))


def test_the_base_by_its_name(tmp_path: Path) -> None:
    toys.causal_lm().save_pretrained(tmp_path / "base")
    guide = tt.ValueGuide(toys.causal_lm().base_model, toys.value_guide().head, layers=2)
    folder = tt.save_guide(guide, tmp_path / "g", storage="base", base=str(tmp_path / "base"))
    assert_same(guide, tt.load_guide(folder))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own
def test_a_lora_adapter(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    lm = toys.language_model()
    before = copy.deepcopy(lm.model.state_dict())
    cut = tt.ValueGuide(lm.model.base_model, ScalarHead(32), layers=2).backbone
    settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapter = get_peft_model(copy.deepcopy(cut), settings)
    folder = tmp_path / "g"
    merged = copy.deepcopy(adapter).merge_and_unload()
    guide = tt.ValueGuide(merged, toys.value_guide().head)
    tt.save_guide(guide, folder, storage="base", adapter=adapter)
    loaded = tt.load_guide(folder, lm=lm)
    assert_same(guide, loaded)
    assert not torch.equal(scores(loaded)[0], scores(tt.ValueGuide(cut, guide.head))[0])
    assert all(torch.equal(before[k], w) for k, w in lm.model.state_dict().items())


def test_the_manifest(tmp_path: Path) -> None:
    lm = toys.language_model()
    folder = tt.save_guide(
        toys.value_guide(vocab=lm.vocab, name="kind"),
        tmp_path / "g",
        base="some/base",
        revision="abc",
        template="auto",
        objective={"name": "td", "lambda": 0.95},
        data={"rows": 3},
        reward={"mean": 0.5, "std": 1.0},
    )
    manifest = verify(folder)
    assert manifest == verify(str(folder))
    assert (manifest.kind, manifest.name, manifest.base, manifest.revision) == (
        "value",
        "kind",
        "some/base",
        "abc",
    )
    assert manifest.vocab == lm.vocab
    assert manifest.head == {"kind": "scalar", "hidden": 32}
    assert manifest.objective == {"name": "td", "lambda": 0.95}
    assert manifest.version == tt.__version__
    assert set(manifest.files) == {
        "head.safetensors",
        "backbone/buffers.safetensors",
        "backbone/config.json",
        "backbone/model.safetensors",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tt.save_guide(toys.value_guide(), tmp_path / "g")


@pytest.mark.parametrize(
    "name",
    [
        "head.safetensors",
        "backbone/model.safetensors",
        "backbone/buffers.safetensors",
        "guide.json",
    ],
)
def test_a_flipped_bit_anywhere(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for at in (0, len(whole) // 2, len(whole) - 3):
        data = bytearray(whole)
        data[at] ^= 1
        (folder / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=f"{name} must be as it was saved") as error:
            tt.load_guide(folder)
        assert "\n" not in str(error.value)


def test_truncated_and_missing(folder: Path) -> None:
    path = folder / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"as it was saved: \d+ bytes; got \d+ bytes"):
        tt.load_guide(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match="must hold head.safetensors; got no such file"):
        tt.load_guide(folder)
    (folder / "guide.json").unlink()
    with pytest.raises(CheckpointError, match="must hold guide.json"):
        tt.load_guide(folder)
    with pytest.raises(CheckpointError, match="must hold guide.json"):
        tt.load_guide(folder / "nowhere")


def test_pickles_are_refused(folder: Path) -> None:
    bad = folder / "backbone" / "pytorch_model.bin"
    bad.write_bytes(b"")
    with pytest.raises(CheckpointError, match="a pickle can run any code"):
        tt.load_guide(folder)
    with pytest.raises(CheckpointError, match="a pickle can run any code"):
        tt.load_guide(bad)
    with pytest.raises(CheckpointError, match="a guide is a folder"):
        tt.load_guide(folder / "head.safetensors")


def test_files_that_were_not_saved(folder: Path) -> None:
    (folder / "backbone" / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="also backbone/model.safetensors.index.json"):
        tt.load_guide(folder)


def rewrite(folder: Path, **fields: Any) -> None:
    """A manifest by another hand, with a sum that fits."""
    from trimtab.guides.manifest import _digest

    body = json.loads((folder / "guide.json").read_text())
    body.pop("sha256")
    body |= fields
    (folder / "guide.json").write_text(json.dumps({**body, "sha256": _digest(body)}))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": 99}, "must be of format 1; got 99"),
        ({"kind": "oracle"}, "kind must be one of value, vocabulary, state; got 'oracle'"),
        ({"head": {"kind": "deep"}}, "head.kind must be one of scalar, .*; got 'deep'"),
        ({"head": {"kind": "scalar", "hidden": 5}}, "head.safetensors must fit"),
        (
            {"transforms": [{"kind": "square"}]},
            r"transforms\[0\].kind must be one of log_sigmoid, .*; got 'square'",
        ),
        ({"novel": 1}, "novel"),
        ({"storage": "cloud"}, "storage must be one of full, base; got 'cloud'"),
        (
            {"files": {"../x": {"sha256": "", "bytes": 0}}},
            "files must name no file outside the folder; got '../x'",
        ),
    ],
)
def test_manifests_of_another_kind(folder: Path, fields: dict[str, Any], words: str) -> None:
    rewrite(folder, **fields)
    with pytest.raises(tt.TrimtabError, match=words) as error:
        tt.load_guide(folder)
    assert "\n" not in str(error.value)


def test_another_tokenizer(tmp_path: Path) -> None:
    lm = toys.language_model()
    other = tt.save_guide(toys.value_guide(vocab=Vocab(97, "feed")), tmp_path / "a", base="x/y")
    with pytest.raises(IncompatibleError, match="fingerprint feed against .* for, x/y"):
        tt.load_guide(other, lm=lm)
    small = tt.save_guide(toys.value_guide(vocab=Vocab(50)), tmp_path / "b")
    with pytest.raises(IncompatibleError, match="50 tokens against the base's 97"):
        tt.load_guide(small, lm=lm)


def test_existing_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = toys.value_guide("gpt2")
    with pytest.raises(CheckpointError, match="pass overwrite=True"):
        tt.save_guide(guide, folder)
    replace = os.replace

    def fail(source: Any, target: Any) -> None:
        if str(source).endswith(".part"):
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="must be writable, on a disk with room; got no space"):
        tt.save_guide(guide, folder, overwrite=True)
    monkeypatch.undo()
    assert_same(tt.load_guide(folder), toys.value_guide())
    tt.save_guide(guide, folder, overwrite=True)
    assert_same(tt.load_guide(folder), guide)
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_an_interrupted_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tt.save_guide(toys.value_guide(), tmp_path / "g")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a ValueGuide, VocabularyGuide or StateGuide"):
        tt.save_guide(toys.TableGuide(), tmp_path / "g")
    with pytest.raises(UsageError, match="head that is saved must be one of ScalarHead"):
        tt.save_guide(tt.ValueGuide(toys.backbone(), torch.nn.Linear(32, 1)), tmp_path / "g")
    with pytest.raises(UsageError, match="JSON's types"):
        tt.save_guide(toys.value_guide(), tmp_path / "g", data={"rows": torch.ones(1)})
    with pytest.raises(UsageError, match="an adapter needs storage='base'"):
        tt.save_guide(toys.value_guide(), tmp_path / "g", adapter=object())
    assert list(tmp_path.iterdir()) == []
