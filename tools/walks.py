"""Walks through the code: which files does one real run pass?

To follow how a prompt becomes a token, or what a command does, a newcomer opens the files whose
functions run on the way. So each walk is a real, tiny run in a process of its own, on the CPU, with
a random two-layer model in a temporary folder, watched by `sys.setprofile`:

- A file counts when one of its functions, methods or generators is entered.
- What only makes or reads a thing does not count: bodies of modules and classes (imports),
  `__init__` and other generated or special methods, properties, and functions that run while a
  module is imported (registrations). A door that imports a name when it is first used is an import
  too, so `lazy.py` never counts.
- What runs beneath the trial of a network's cache, which asks many small questions when a model is
  opened, does not count; the trial itself does.
- A walk ends at its goal. Of `prompt -> token`, where model and guide are open already, it is the
  first `Step` that is returned or yielded. A command's goal is to enter the decode loop, where that
  first walk begins, and of `train` the first step of an optimizer. Beside it stand the files up to
  the first token, and those of the whole run.

    python -m tools.walks FOLDER           all of them, as JSON
    python -m tools.walks FOLDER evaluate  one; FOLDER has what those before it made
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeGuard

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "trimtab"

OPTIMIZED = 0x1
"""The flag of functions' code; bodies of modules and classes lack it."""

LOOP = "decoding/loop.py"
IMPORTS = f"{SOURCE / 'lazy.py'}"
TRIALS = ("cache/trial.py",)

STEERED = ("--guide", "guide", "--beta", "2", "--k", "5")
TINY = ("--model", "model", "--max-new-tokens", "6")

WALKS: dict[str, tuple[str, ...]] = {
    "collect": (
        "collect", "--prompts", "prompts.txt", "--split", "all", "--reward", "words",
        "-n", "4", "-o", "rollouts", *TINY,
    ),
    "train": (
        "train", "td-lambda", "rollouts", "-o", "guide", "--model", "model", "--layers", "1",
        "--lora-rank", "2", "--epochs", "1", "--held-out", "0.2", "--device", "cpu",
    ),
    "prompt -> token": (),
    "generate": ("generate", "w5 w6", *TINY, *STEERED),
    "evaluate": (
        "evaluate", "--prompts", "prompts.txt", "--split", "all", "--reward", "words",
        "-m", "vas", "-n", "1", "--base-samples", "2", "-o", "results", *TINY, *STEERED,
    ),
}  # fmt: skip
"""The command of each walk, in an order in which each finds what it needs."""


# --- watching ------------------------------------------------------------------------------------


@dataclass
class Watch:
    """The files whose functions are entered while it is open, and those entered before a mark.

    Attributes:
        files: in the order in which they are first entered, relative to the package.
        marks: the files before each mark that was passed: "loop", "token", "optimizer".
    """

    files: dict[str, None] = field(default_factory=dict)
    marks: dict[str, list[str]] = field(default_factory=dict)
    _known: set[CodeType] = field(default_factory=set)

    def __enter__(self) -> Watch:
        threading.setprofile(self.see)
        sys.setprofile(self.see)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def see(self, frame: FrameType, event: str, value: Any) -> None:
        """What `sys.setprofile` calls at every call and return; a yield is a return."""
        code = frame.f_code
        if event == "call" and code not in self._known and _counts(code) and not _aside(frame):
            self._known.add(code)
            file = Path(code.co_filename).relative_to(SOURCE).as_posix()
            if file == LOOP:
                self._mark("loop")
            self.files.setdefault(file)
        elif event == "return" and type(value).__name__ == "Step":
            self._mark("token")
        elif event == "return" and code.co_name == "step" and "/torch/optim/" in code.co_filename:
            self._mark("optimizer")

    def _mark(self, name: str) -> None:
        self.marks.setdefault(name, list(self.files))


def _counts(code: CodeType) -> bool:
    if not code.co_flags & OPTIMIZED or not code.co_filename.startswith(f"{SOURCE}{os.sep}"):
        return False
    if code.co_filename == IMPORTS:
        return False
    special = code.co_name.startswith("__") and code.co_name != "__call__"
    return not special and code.co_firstlineno not in _properties(code.co_filename)


def _aside(frame: FrameType) -> bool:
    """Whether further up a module of the package is being imported, or a cache is tried."""
    above: FrameType | None = frame
    while above := above.f_back if above else None:
        path = Path(above.f_code.co_filename)
        if path.is_relative_to(SOURCE) and path.name != "__main__.py":
            tried = path.relative_to(SOURCE).as_posix() in TRIALS
            if above.f_code.co_name == "<module>" or tried:
                return True
    return False


@cache
def _properties(path: str) -> frozenset[int]:
    """The first lines of a file's properties, which are those of their decorators."""
    functions = (
        node for node in ast.walk(ast.parse(Path(path).read_bytes())) if _is_property(node)
    )
    return frozenset(node.decorator_list[0].lineno for node in functions)


def _is_property(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and any(
        ast.unparse(decorator).rpartition(".")[2] in ("property", "cached_property")
        for decorator in node.decorator_list
    )


# --- runs ----------------------------------------------------------------------------------------


def walk(name: str) -> dict[str, list[str]]:
    """Makes one run in the working folder and watches it; see `walk_all`."""
    watch = Watch()
    if command := WALKS[name]:
        from trimtab.cli import main

        sys.argv = ["trimtab", *command]
        try:
            with watch:
                main()
        except SystemExit as done:
            if done.code:
                raise
    else:
        import trimtab as tt

        lm = tt.TransformersLM("model")
        guide = tt.load_guide("guide", lm=lm)
        with watch:
            tt.decode(lm, guide, tt.vas(beta=2.0, k=5), ["w5 w6"], max_new_tokens=3)
    goal = {"prompt -> token": "token", "train": "optimizer"}.get(name, "loop")
    token = watch.marks.get("token", [])
    return {"goal": watch.marks[goal], "token": token, "whole": list(watch.files)}


def prepare(folder: Path) -> None:
    """Writes a random two-layer Llama, a tokenizer of words, and twelve prompts."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(0)
    size, words = 12, {f"w{i}": i for i in range(12)}  # so few that responses end early
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        bos_token_id=1, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    inner = Tokenizer(models.WordLevel(words, unk_token="w2"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="w0", pad_token="w0", bos_token="w1"
    ).save_pretrained(folder / "model")
    prompts = [f"w{i} w{j}\n" for i in range(3, 12, 3) for j in range(3, 11, 2)]
    (folder / "prompts.txt").write_text("".join(prompts), encoding="utf-8")


def walk_all(folder: Path) -> dict[str, dict[str, list[str]]]:
    """All walks, each in a process of its own.

    Returns:
        By name the files up to the goal, up to the first token (none of `train`) and of the whole
        run, each in the order in which they are first entered, relative to the package.
    """
    prepare(folder)
    return {name: _in_a_process(name, folder) for name in WALKS}


def _in_a_process(name: str, folder: Path) -> dict[str, list[str]]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tools.walks", str(folder), name],
        cwd=folder,
        env=os.environ | quiet | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the walk {name!r} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print("\n" + json.dumps(walk(sys.argv[2])))
    else:
        print(json.dumps(walk_all(Path(sys.argv[1]).resolve()), indent=2))
