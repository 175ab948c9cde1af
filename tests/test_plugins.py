"""Objects from outside: a user's files and modules, installed plugins, optional packages."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trimtab.errors import PluginError, UnknownNameError, UsageError
from trimtab.plugins import entry_points, load_object, optional


@pytest.fixture(autouse=True)
def own_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The search path and the modules are as before after each test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- files and modules ---------------------------------------------------------------------------


def test_a_file_imports_what_lies_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "neighbour_of_it.py", "TWO = 2\n")
    path = write(tmp_path / "own_file.py", "from neighbour_of_it import TWO\ndef f(): return TWO\n")
    assert load_object(f"python:{path}:f", "a reward")() == 2
    assert load_object(f"{path}:f", "a reward")() == 2


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = write(tmp_path / "changing_file.py", "VALUE = 1\n")
    assert load_object(f"python:{path}:VALUE", "a guide") == 1
    write(path, "VALUE = 'two'\n")
    assert load_object(f"python:{path}:VALUE", "a guide") == "two"


def test_a_dataclass_of_a_file_is_whole_and_can_be_pickled(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Box:\n    size: int = 3\nbox = Box()\n"
    )
    path = write(tmp_path / "with_a_dataclass.py", text)
    box = load_object(f"python:{path}:box", "a task")
    assert pickle.loads(pickle.dumps(box)) == box  # noqa: S301


def test_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    values = []
    for folder, name in (("a", "same_name"), ("b", "same_name"), ("a", "queue"), ("b", "queue")):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = write(tmp_path / folder / f"{name}.py", f"VALUE = {folder!r}\n")
        values.append(load_object(f"python:{path}:VALUE", "a reward"))
    assert values == ["a", "b", "a", "b"]
    assert not hasattr(sys.modules.get("queue"), "VALUE")


def test_a_module_beside_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_package").mkdir()
    write(tmp_path / "own_package" / "part.py", "def f(): return 'here'\n")
    assert load_object("python:own_package.part:f", "a method")() == "here"


def _loads(spec: str) -> str:
    return str(load_object(spec, "a reward")())


def test_a_worker_process_loads_it_again(tmp_path: Path) -> None:
    path = write(tmp_path / "for_workers.py", "def f(): return 'loaded'\n")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_loads, [f"python:{path}:f"]) == "loaded"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("python:f", "a reward of your own must be python:MODULE:NAME or python:FILE.py:NAME"),
        ("python:file.py:", "name both"),
        ("python:no/such.py:f", "FileNotFoundError"),
        ("python:no_such_module:f", "No module named 'no_such_module'"),
    ],
)
def test_what_cannot_be_loaded_is_told(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_object(spec, "a reward")


def test_a_file_that_fails_leaves_no_module(tmp_path: Path) -> None:
    path = write(tmp_path / "failing_file.py", "def f(): pass\nraise SystemError('broken')\n")
    with pytest.raises(UsageError, match="SystemError: broken; check the path and run it alone"):
        load_object(f"python:{path}:f", "a reward")
    assert "failing_file" not in sys.modules


def test_near_names_are_offered(tmp_path: Path) -> None:
    path = write(tmp_path / "near_names.py", "def politeness(): pass\n")
    with pytest.raises(UnknownNameError, match="did you mean politeness"):
        load_object(f"python:{path}:politenes", "a reward")


# --- plugins -------------------------------------------------------------------------------------


def install(folder: Path, distribution: str, entries: str) -> None:
    """An installed package's metadata, as pip leaves it."""
    about = folder / f"{distribution}-1.5.dist-info"
    about.mkdir()
    write(about / "METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    write(about / "entry_points.txt", entries)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_plugin_is_loaded_when_it_is_asked_for(site: Path) -> None:
    write(site / "polite_words.py", "def politeness(prompts, responses): return [1.0]\n")
    install(site, "polite", "[trimtab.rewards]\npoliteness = polite_words:politeness\n")
    plugins = entry_points("trimtab.rewards")
    assert list(plugins) == ["politeness"]
    assert not entry_points("trimtab.tasks")
    assert "polite_words" not in sys.modules
    assert plugins["politeness"].distribution == "polite 1.5"
    assert plugins["politeness"].problem == ""
    assert plugins["politeness"].load()([], []) == [1.0]


def test_a_broken_plugin_costs_only_itself(site: Path) -> None:
    write(site / "whole_module.py", "def good(): return 1\n")
    write(site / "broken_module.py", "import no_such_module\n")
    install(site, "mixed", "[trimtab.tasks]\ngood = whole_module:good\nbad = broken_module:bad\n")
    plugins = entry_points("trimtab.tasks")
    assert list(plugins) == ["bad", "good"]
    assert plugins["good"].load()() == 1
    assert plugins["bad"].problem == "ModuleNotFoundError: No module named 'no_such_module'"
    with pytest.raises(PluginError, match="the plugin 'bad' of mixed 1.5 must load"):
        plugins["bad"].load()


def test_two_packages_that_offer_one_name_are_named(site: Path) -> None:
    install(site, "first", "[trimtab.guides]\ncalm = first:guide\n")
    install(site, "second", "[trimtab.guides]\ncalm = second:guide\n")
    (plugin,) = entry_points("trimtab.guides").values()
    with pytest.raises(PluginError, match="offered by one package; got .*first 1.5"):
        plugin.load()


# --- optional packages ---------------------------------------------------------------------------


def test_a_missing_package_names_its_extra() -> None:
    assert optional("json.decoder", "eval").JSONDecoder
    said = r"this needs the package no_such_package; .*run: pip install 'trimtab\[eval\]'"
    with pytest.raises(UsageError, match=said):
        optional("no_such_package.module", "eval")
    with pytest.raises(UsageError, match="the reward 'x' needs the package no_such_package"):
        optional("no_such_package", "eval", user="the reward 'x'")
