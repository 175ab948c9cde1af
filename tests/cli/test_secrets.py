"""What a reward server's URL keeps secret stands in nothing that a command prints or writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rewards.test_server import SECRETS, lengths, listening, secret
from tests.shell import Run


@pytest.mark.slow
def test_no_command_prints_or_writes_a_secret(
    trimtab: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("w1\nw2\n")
    few = ("--model", model, "--max-new-tokens", "2")
    bench = ("--prompts", str(prompts), "--split", "all", *few)
    with listening(lengths) as (url, _):
        for i, name in enumerate((secret(url), f"2*{secret(url)} - 1*words")):
            out = tmp_path / f"{i}"
            given = ("-r", name)
            for result in (
                trimtab("generate", "w5", *few, *given, "--json"),
                trimtab("generate", "w5", *few, "-g", name, *given, "--json"),
                trimtab("generate", "w5", *few, "-g", name, *given, "--compare"),
                trimtab("generate", "w5", *few, *given, "-o", str(out / "out.jsonl")),
                trimtab("evaluate", *bench, *given, "-m", "vas", "-o", str(out / "results")),
                trimtab("collect", *bench, *given, "-n", "2", "-o", str(out / "rollouts")),
                trimtab("report", str(out / "results")),
            ):
                assert result.exit_code == 0, (result.stderr, result.exception)
                assert not [word for word in SECRETS if word in result.stdout + result.stderr]
        result = trimtab("generate", "w5", *few, "-r", f"{secret(url)} +2*sentimet")
        assert result.exit_code == 2
        assert not [word for word in SECRETS if word in result.stderr]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        found = str(path).encode() + path.read_bytes()
        assert not [word for word in SECRETS if word.encode() in found], path
