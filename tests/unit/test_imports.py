"""What is left out of the imports of vLLM and transformers, on stand-ins for the modules that are imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from worker import imports
from worker.imports import Index

COMPILER = "torch._inductor.lowering"
INDEX: Index = {
    frozenset(): {"llama.configuration_llama": {"LlamaConfig"}},
    frozenset({"torch", "tokenizers"}): {"llama.modeling_llama": {"LlamaModel", "LlamaForCausalLM"}},
}


class Indexer(ModuleType):
    """A stand-in for `transformers.utils.import_utils`."""

    def __init__(self, folder: Path) -> None:
        super().__init__("import_utils")
        self.__file__ = str(folder / "utils" / "import_utils.py")
        self.models = folder / "models"
        self.asked: list[str] = []

    def define_import_structure(self, module_path: str | Path, prefix: str | None = None) -> Index:
        """Note what is asked."""
        assert prefix is None
        self.asked.append(str(module_path))
        return {needs: dict(modules) for needs, modules in INDEX.items()}


@pytest.fixture
def indexer(tmp_path: Path) -> Indexer:
    """Return a module that makes an index."""
    return Indexer(tmp_path / "transformers")


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let nothing be said about compiling, and no compiler be imported."""
    for name in ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE"):
        monkeypatch.setenv(name, "")  # so that it is put back in the end, also if it is not set now
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, COMPILER, raising=False)
    return monkeypatch


def test_the_index_is_made_once(indexer: Indexer, tmp_path: Path) -> None:
    """By the first of all workers that share a cache, whichever way it is asked for."""
    file = tmp_path / "cache" / "index.json"
    imports.keep_index(indexer, file)
    assert indexer.define_import_structure(indexer.models, prefix="models") == {
        needs: {f"models.{name}": has for name, has in modules.items()} for needs, modules in INDEX.items()
    }
    assert indexer.define_import_structure(str(indexer.models / "__init__.py")) == INDEX
    assert indexer.asked == [str(indexer.models)]
    assert list(file.parent.iterdir()) == [file]

    later = Indexer(indexer.models.parent)
    imports.keep_index(later, file)
    assert later.define_import_structure(later.models) == INDEX
    assert later.asked == []


def test_whoever_changes_an_index_changes_no_other(indexer: Indexer, tmp_path: Path) -> None:
    """Transformers adds to what it got."""
    imports.keep_index(indexer, tmp_path / "index.json")
    first = indexer.define_import_structure(indexer.models)
    first[frozenset()]["llama.configuration_llama"].add("more")
    assert indexer.define_import_structure(indexer.models) == INDEX


def test_other_folders_are_indexed_as_ever(indexer: Indexer, tmp_path: Path) -> None:
    """A single model has few files, and asks only when it is used."""
    imports.keep_index(indexer, tmp_path / "index.json")
    folder = str(indexer.models / "llama" / "__init__.py")
    indexer.define_import_structure(folder)
    assert indexer.asked == [folder]


@pytest.mark.parametrize("content", ["", "[", "\udcff"])
def test_a_broken_file_is_written_anew(indexer: Indexer, tmp_path: Path, content: str) -> None:
    """As after a full disk."""
    file = tmp_path / "index.json"
    file.write_text(content, "utf-8", "surrogateescape")
    imports.keep_index(indexer, file)
    assert indexer.define_import_structure(indexer.models) == INDEX
    assert imports._read(file) == INDEX


def test_a_cache_that_cannot_be_written_is_done_without(indexer: Indexer, tmp_path: Path) -> None:
    """It costs time alone."""
    (tmp_path / "file").touch()
    imports.keep_index(indexer, tmp_path / "file" / "index.json")
    for _ in range(2):
        assert indexer.define_import_structure(indexer.models) == INDEX
    assert len(indexer.asked) == 2


def test_a_release_without_an_index_is_left_alone(tmp_path: Path) -> None:
    """Nothing is missing then."""
    module = ModuleType("import_utils")
    imports.keep_index(module, tmp_path / "index.json")
    assert not hasattr(module, "define_import_structure")


def test_the_file_is_named_after_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other files of transformers, another index; where nobody can tell, none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    package = tmp_path / "transformers-9.9.9.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 9.9.9\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert imports._index_file() is None
    names = []
    for hashes in ("one", "two", "one"):
        (package / "RECORD").write_text(f"transformers/__init__.py,sha256={hashes},1\n")
        file = imports._index_file()
        assert file is not None
        assert file.parent == tmp_path / "tl-fif"
        names.append(file.name)
    assert names[0] == names[2] != names[1]
    monkeypatch.setattr(sys, "path", [])
    assert imports._index_file() is None


def test_no_compiler_is_imported_where_nothing_is_compiled(switches: pytest.MonkeyPatch) -> None:
    """Only while vLLM is imported: later the compiler is there for whoever wants it."""
    switches.setenv("TORCH_COMPILE_DISABLE", "1")
    with imports._without_compiler():
        with pytest.raises(ModuleNotFoundError):
            __import__(COMPILER)
        assert os.environ["TORCHDYNAMO_DISABLE"] == "1"
    assert COMPILER not in sys.modules


@pytest.mark.parametrize(
    "said", [{}, {"TORCH_COMPILE_DISABLE": "0"}, {"TORCH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "0"}]
)
def test_where_something_is_compiled_the_compiler_stays(switches: pytest.MonkeyPatch, said: dict[str, str]) -> None:
    """As on a GPU, or where somebody says so."""
    for name, value in said.items():
        switches.setenv(name, value)
    with imports._without_compiler():
        assert COMPILER not in sys.modules
    assert os.environ.get("TORCHDYNAMO_DISABLE") == said.get("TORCHDYNAMO_DISABLE")


def test_a_compiler_that_is_there_already_stays(switches: pytest.MonkeyPatch) -> None:
    """Somebody else has imported it."""
    switches.setenv("TORCH_COMPILE_DISABLE", "1")
    module = ModuleType(COMPILER)
    switches.setitem(sys.modules, COMPILER, module)
    with imports._without_compiler():
        assert sys.modules[COMPILER] is module
    assert sys.modules[COMPILER] is module
