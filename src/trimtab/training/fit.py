"""One training run: a folder that may be left at any moment and is taken up where it stood.

<folder>/run.json              what the run is; a folder of another run is refused
<folder>/log.jsonl             loss, learning rate and validation, one line per report
<folder>/checkpoint-<n>/       transformers' checkpoints, while the run lasts
<folder>/best.safetensors      the trained weights with the lowest validation error
<folder>/result.json           written last: the run is done
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from trimtab.errors import DataError, OutputError, TrainingError
from trimtab.files import apply_umask, write_atomic
from trimtab.training.examples import Material
from trimtab.training.network import GuideNetwork
from trimtab.training.objectives import Objective
from trimtab.training.trainer import GuideTrainer, Reference

OnProgress: TypeAlias = Callable[[int, int, Mapping[str, float]], object]
"""Called with updates done, updates in all, and what was reported now (often nothing)."""


@dataclass(frozen=True)
class Fit:
    """A run that is done.

    Attributes:
        lr: its learning rate.
        error: the lowest validation error (of `GuideTrainer.evaluate`).
        metrics: all that was measured there.
        step: updates until then.
        steps: updates in all.
        constant: the validation error of one number for every text, the best such number.
    """

    lr: float
    error: float
    metrics: Mapping[str, float]
    step: int
    steps: int
    constant: float

    @property
    def remark(self) -> str:
        """That it is no better than a constant, in words; "" where it is."""
        return no_better(self.error, self.constant)


ROUNDING = 1e-4
"""Share of a constant's error that sums in float32 may be off by."""

DO = "train longer, on more data or at other learning rates; decoding by it is decoding by noise"
"""What to do about a guide that is no better than a constant."""


def no_better(error: float, constant: float) -> str:
    """That a validation error is not below a constant's, in words; "" where it is."""
    if error < (1 - ROUNDING) * constant:
        return ""
    return (
        f"no better than a constant: validation error {error:.4f}, where saying the same of every "
        f"text has {constant:.4f}"
    )


def fit(
    network: GuideNetwork,
    objective: Objective,
    material: Material,
    args: TrainingArguments,
    *,
    head_lr: float,
    facts: Mapping[str, Any],
    reference: Reference | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> Fit:
    """Train a network, or finish training it; it then has the best weights.

    Args:
        network: as `make_network` makes it; the same at every call.
        objective: what it learns by.
        material: what it learns from.
        args: the run's folder, learning rate and length.
        head_lr: of the head.
        facts: what else decides the run, as plain JSON types.
        reference: log pi_ref, for objectives that take expectations.
        overwrite: clear a folder that is another run's.
        on_progress: told after every update.

    Raises:
        DataError: the folder is another run's, and it is not to be overwritten.
        TrainingError: no validation gave a finite error, or no weight was changed.
    """
    start = weights_sum(network)
    folder = Path(str(args.output_dir))
    with args.main_process_first(local=False):
        _claim(folder, {**facts, "lr": args.learning_rate}, overwrite=overwrite)
    if (done := read_fit(folder)) is not None:
        network.load_state_dict(load_file(folder / "best.safetensors"))
        return _moved(network, start, done, head_lr)
    trainer = GuideTrainer(
        network,
        objective,
        material,
        head_lr=head_lr,
        reference=reference,
        args=args,
        callbacks=[_Log(folder / "log.jsonl", on_progress)],
    )
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    with writable(folder):
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
        done = _finish(folder, trainer, args.learning_rate)
    return _moved(network, start, done, head_lr)


def weights_sum(network: GuideNetwork) -> str:
    """A hash of all the weights that are trained."""
    total = sha256()
    for name, weights in network.state_dict().items():
        total.update(name.encode() + save({"": weights.detach().cpu().contiguous()}))
    return total.hexdigest()


def _moved(network: GuideNetwork, start: str, done: Fit, head_lr: float) -> Fit:
    """The fit, unless its best weights are those that it began with."""
    if weights_sum(network) != start:
        return done
    raise TrainingError(
        "training must change the guide's weights",
        got=f"none changed in {done.step} updates at learning rate {done.lr:g} (head {head_lr:g})",
        do="raise the rates, or bring responses that differ: all gradients were 0 or too small",
    )


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Says plainly what a failed write means for a training.

    torch and safetensors tell a full disk by errors of their own, whose text alone gives it away.

    Raises:
        OutputError: no room on the disk, no right to write.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        message = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and not any(sign in message for sign in _DISK):
            raise
        raise OutputError(
            f"{folder} must be writable, on a disk with room",
            got=message[:200],
            do="make room and run it again: it goes on from the last whole checkpoint",
        ) from error


_DISK = (
    "PytorchStreamWriter",
    "No space left",
    "unexpected pos",
    "enforce fail at inline_container",
)


def _finish(folder: Path, trainer: GuideTrainer, lr: float) -> Fit:
    """Keep the best weights and the figures, and clear the checkpoints away."""
    state = trainer.state
    best = [entry for entry in state.log_history if "eval_error" in entry]
    finite = [entry for entry in best if math.isfinite(entry["eval_error"])]
    if not finite:
        raise TrainingError(
            "training must reach a finite validation error",
            got=f"none at learning rate {lr:g}",
            do="lower it, or look at log.jsonl for where it went wrong",
        )
    entry = min(finite, key=lambda e: e["eval_error"])
    metrics = {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_")}
    constant = trainer.constant_error()
    steps = int(entry["step"]), state.max_steps
    done = Fit(lr, entry["eval_error"], metrics, *steps, constant=constant)
    if trainer.is_world_process_zero():
        net: nn.Module = trainer.accelerator.unwrap_model(trainer.model)
        weights = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
        write_atomic(folder / "best.safetensors", save(weights))
        write_atomic(folder / "result.json", json.dumps(vars(done), indent=2) + "\n")
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return done


def read_fit(folder: Path) -> Fit | None:
    """A run's result; None while it is not done."""
    path = folder / "result.json"
    if not path.is_file():
        return None
    try:
        return Fit(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path} must be as training wrote it",
            got=" ".join(str(error).split()),
            do=f"remove {folder} and train again",
        ) from error


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; one that was cut off has no state and is removed."""
    paths = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for path in reversed(paths):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        return str(path)
    return None


def _claim(folder: Path, facts: Mapping[str, Any], *, overwrite: bool) -> None:
    """Note what the run is; a folder of another run is cleared or refused."""
    path = folder / "run.json"
    ours = json.loads(json.dumps(facts))
    if path.is_file():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        other = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        if not other:
            return
        if not overwrite:
            got = ", ".join(f"{k} {theirs.get(k)!r} (now {ours.get(k)!r})" for k in other)
            raise DataError(
                f"{folder} must be of the same run",
                got=got,
                do="name another folder, remove it, or pass --overwrite",
            )
        shutil.rmtree(folder)
    write_atomic(path, json.dumps(ours, indent=2, sort_keys=True) + "\n")


class _Log(TrainerCallback):
    """Writes what the trainer reports, a line at a time, and tells how far it is."""

    def __init__(self, path: Path, on_progress: OnProgress | None) -> None:
        self.path, self.on_progress = path, on_progress

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """A report: loss and rate, or a validation."""
        if state.is_world_process_zero and logs:
            line = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4), **logs}
            with self.path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            if self.on_progress:
                self.on_progress(state.global_step, state.max_steps, logs)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is there: others may read it, as any file."""
        if state.is_world_process_zero:
            apply_umask(self.path.parent / f"checkpoint-{state.global_step}")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An update was made."""
        if state.is_world_process_zero and self.on_progress:
            self.on_progress(state.global_step, state.max_steps, {})
