"""The embedded default on this machine: found by name, loaded without a network, and it speaks."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from trimtab.assets import locate
from trimtab.errors import UsageError


def refuse(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a local model must load without the network")


def test_a_path_or_hub_id_stays_as_it_is(tmp_path: Path) -> None:
    assert locate(str(tmp_path)) == str(tmp_path)
    assert locate("someone/a-model") == "someone/a-model"


def test_a_path_where_nothing_is_is_refused() -> None:
    with pytest.raises(UsageError, match="a folder must be there; got nothing at './my-model'"):
        locate("./my-model")


@pytest.mark.assets
def test_smollm2_loads_without_a_network_and_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    for door in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, door, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder = locate()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        best = model(ids).logits[0, -1].argmax()
    assert tokenizer.decode(best) == " Paris"
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    assert "<|im_start|>" in tokenizer.chat_template
