"""The doors: what each gives, what opening them costs, and that all who show trimtab use them."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

import trimtab as tt
from tests.docs.blocks import PAGES, ROOT, blocks_of

DOORS = {
    "trimtab": """
        args args_stochastic best_of_n Candidates cd cd_blockwise Center check_guide check_method
        check_model check_rule Clamp collect Completion Cost decode decode_steps evaluate fudge
        genarm Greedy greedy Group inspect_guide load_guide LogSigmoid measure Method method
        METHODS pargs
        pargs_greedy Processes Prompt rad read_groups report RewardGuide Sample Samples sampling
        save_guide steer Step Stochastic sweep TableLM TextGuide tilt TopK train TransformersLM
        TrimtabError ValueGuide vas Vocabulary VocabularyGuide WeightedSum
    """,
    "trimtab.assets": """
        Asset ASSETS cache_dir fetch find is_fetched locate path_of Terms Wheel
    """,
    "trimtab.decoding": """
        completion decode decode_steps draw_blocks Greedy Method method METHODS nucleus
        prefix_scores score_only Stochastic tilt
    """,
    "trimtab.errors": """
        AssetError CheckpointError ChecksumError DataError FetchError GuideError IncompatibleError
        LawError ModelError NotFetchedError OutputError PluginError PromptError ResultsError
        RewardError TemplateError TermsError TrainingError TrimtabError TrimtabWarning
        UnavailableError UnknownNameError UsageError
    """,
    "trimtab.evaluation": """
        Answers best_of_n_kl best_of_n_kl_bound best_of_n_reward best_of_n_scores
        best_of_steered_kl bleu bootstrap
        by_prompt Choice distinct diversity Estimate estimate evaluate Evaluation Flops forward
        holm kaplan ledger_kl Metric monte_carlo_kl Options paired_differences
        paired_power pairwise_rouge_l perplexity ratio repetition sample_size Shape shape_of
        sign_flips spent Sweep Table wilcoxon win_tie_lose
    """,
    "trimtab.guides": """
        AdvantageHead Center Clamp Delegate DuelingHead EmbeddingHead Identity load_guide
        LogProbabilityHead LogSigmoid Manifest RereadingValueGuide RewardGuide save_guide ScalarHead
        shipped_guides StateGuide TextGuide Transform ValueGuide verify VocabularyGuide
        VocabularyHead WeightedSum
    """,
    "trimtab.inspection": "Finding inspect_guide Inspection",
    "trimtab.integrations": "GuidedLogitsProcessor",
    "trimtab.models": "ChatTemplate TableLM TransformersLM",
    "trimtab.protocols": """
        Bounded Guide LanguageModel OffersStates Reader ReadsStates Reward Rule Sampler Task
    """,
    "trimtab.rewards": """
        as_reward ask Chrf Classifier encoder find OfTexts on_texts parse RatedSentiment REWARDS
        Rouge SentenceEncoder Server Similarity spelled Sum Toxicity
    """,
    "trimtab.rng": "Rng",
    "trimtab.runs": """
        collect collect_values find_guide find_method find_methods find_model find_prompts
        find_responses find_reward GuideSource OnProgress Processes Progress rank_of read_groups
        read_manifest relabel Scorer Source write_groups
    """,
    "trimtab.tasks": """
        find HubData in_split MAX_NEW_TOKENS PromptTask read_samples samples_of split_of
        task_from_file TASKS
    """,
    "trimtab.testing": """
        check_guide check_method check_model check_rule LAWS_OF_GUIDES LAWS_OF_METHODS
        LAWS_OF_MODELS LAWS_OF_RULES LAWS_OF_TILTING_METHODS LAWS_OF_TILTS
    """,
    "trimtab.training": """
        Objective objective OBJECTIVES read_config split train TrainConfig Trained
    """,
    "trimtab.training.objectives": """
        BradleyTerry DuelingQ FaRMA Fudge GenARM Head ILQL Objective objective OBJECTIVES
        PartialBradleyTerry QLearning Rad TDLambda ValueAdvantage
    """,
    "trimtab.training.preferences": "clean pairs_of prefix_subset read_preferences",
    "trimtab.types": """
        Alternative asked Candidates Completion Cost FinishReason Group is_eos Ledger Message
        Outside pad_ids Prompt PromptLike Proposal Response Sample Samples Split Step Tail Tally
        Template TopK TotalCost Vocab Vocabulary
    """,
}
"""What is public. A name that comes or goes is said in the changelog."""

INSIDE = {
    "benchmarks/training.py": "times the trainer against a bare loop over the same batches",
    "recipes/prompts.py": "makes the prompts that the package ships, by its filter",
}
"""Files of the repository that look behind the doors."""

TOOLS = {"trimtab.files": ["write_atomic"]}
"""What files of the repository may take besides."""


# --- what they give ------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
def test_a_door_gives_what_is_listed_here(door: str) -> None:
    module = importlib.import_module(door)
    assert sorted(module.__all__) == sorted(DOORS[door].split()), "say so in the changelog"
    assert {*module.__all__} <= {*dir(module)}
    for name in module.__all__:
        thing = getattr(module, name)
        assert thing.__doc__ or not isinstance(thing, type | FunctionType), name


def test_every_package_is_a_door_or_has_nothing_to_give() -> None:
    packages = pkgutil.walk_packages(tt.__path__, "trimtab.")
    names = [found.name for found in packages if found.ispkg and ".cli" not in found.name]
    given = {name for name in names if hasattr(importlib.import_module(name), "__all__")}
    assert given <= {*DOORS}, "a door without a list"


def test_the_front_door_gives_the_same_things_as_the_rooms() -> None:
    for door, names in DOORS.items():
        for name in {*names.split()} & {*tt.__all__}:
            assert getattr(importlib.import_module(door), name) is getattr(tt, name), name


@pytest.mark.parametrize("door", ["trimtab", "trimtab.guides"])
def test_a_name_that_is_not_there(door: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{door}' has no attribute 'ruder'"):
        importlib.import_module(door).__getattr__("ruder")


# --- what they cost ------------------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after running `code`."""
    report = "import sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


LAZY = (
    *("decoding", "evaluation", "guides", "inspection", "integrations", "models"),
    *("rewards", "runs", "training"),
)


def test_opening_doors_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "numpy", "jaxtyping", "rich", "cyclopts", "pyarrow", "peft"}
    rooms = "".join(f"; import trimtab.{room}; dir(trimtab.{room})" for room in LAZY)
    assert not loaded_by(f"import trimtab; dir(trimtab){rooms}") & heavy


def test_methods_do_not_load_transformers() -> None:
    loaded = loaded_by("import trimtab; trimtab.vas(beta=1.0); trimtab.TableLM; trimtab.decode")
    assert "torch" in loaded
    assert not loaded & {"transformers", "peft", "pyarrow", "rich", "cyclopts"}


# --- who uses them -------------------------------------------------------------------------------


def texts() -> Iterator[tuple[str, str]]:
    """Python that others read and copy: blocks of the docs, examples, recipes, benchmarks."""
    for page in PAGES:
        for block in blocks_of(page, "python"):
            yield block.name, block.text
    for folder in ("examples", "recipes", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        for path in sorted((ROOT / folder).rglob("*.ipynb")):
            yield str(path.relative_to(ROOT)), code_of(path)


def code_of(notebook: Path) -> str:
    """The code cells of a notebook, one below the other."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def behind(text: str) -> list[str]:
    """What a program takes from trimtab that no door gives."""
    rooms = {door.removeprefix("trimtab.") for door in DOORS}
    wrong = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "trimtab":
            given = {*DOORS.get(node.module or "", "").split(), *TOOLS.get(node.module or "", [])}
            given |= rooms if node.module == "trimtab" else set()
            wrong += [f"{node.module}.{name.name}" for name in node.names if name.name not in given]
    front = {*tt.__all__, *rooms, "__version__"}
    wrong += [f"tt.{name}" for name in re.findall(r"\btt\.(\w+)", text) if name not in front]
    return wrong


def test_docs_examples_recipes_and_benchmarks_use_the_doors() -> None:
    found = {name: wrong for name, text in texts() if (wrong := behind(text))}
    assert {name: wrong for name, wrong in found.items() if name not in INSIDE} == {}
    assert found.keys() >= INSIDE.keys(), "no exception any more"


def test_a_look_behind_a_door_is_seen() -> None:
    text = "import trimtab as tt\nfrom trimtab.decoding.loop import decode\ntt.decod(1)\n"
    assert behind(text) == ["trimtab.decoding.loop.decode", "tt.decod"]
