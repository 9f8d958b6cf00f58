"""Texts cite only what is in the repository: files, links, headings, modules and their attributes.

The texts are Markdown, settings files, and the docstrings and comments of Python files. A path is looked for from the
root, from the folder of the text, and from the packages; a name is looked for in `recoflow` and among the settings.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import io
import os
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from recoflow.settings.environment import Environment

ROOT = Path(__file__).parents[1]
NOT_OURS = {".git", "__pycache__", "build", "dist"}  # and all that begins like `.venv` or ends in `_cache`, `.egg-info`
GENERATED = "data/"  # made at run time, except what the repository has there
KEPT = ("data/environments/", "data/sample/")
TEXTS = {".md", ".py", ".toml", ".yaml", ".yml", ".service", ".sh"}
EXTENSIONS = "py|md|ya?ml|toml|sh|service|lock"
# No path is what is a part of a longer one, a pattern, or begins at the root of a machine.
PATH = re.compile(rf"(?<![\w./~:*{{}}<>$…-])((?:\.{{0,2}}[\w-][\w.-]*/)*[\w-][\w.-]*\.(?:{EXTENSIONS}))(?![\w/*<{{-])")
FOLDER = re.compile(r"`((?:recoflow|recoflow_tests|docs|benchmarks|deploy)(?:/[\w-]+)+/?)`")
LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
FILES = tuple(f".{ending}" for ending in ("py", "md", "yaml", "csv", "jsonl", "parquet", "lock", "duckdb", "sqlite"))
RAISES = re.compile(r"^Raises:\n((?: +.*\n?)+)", re.MULTILINE)
NAME = re.compile(r"`([A-Za-z_]\w*(?:\.\w+)+)`")


@cache
def files() -> tuple[Path, ...]:
    """All files of the repository, the ignored ones left out."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not is_foreign(name)]
        found += [Path(folder) / name for name in names]
    return tuple(sorted(path for path in found if not is_generated(path.relative_to(ROOT).as_posix())))


def is_foreign(name: str) -> bool:
    return name in NOT_OURS or name.startswith(".venv") or name.endswith(("_cache", ".egg-info"))


def is_generated(path: str) -> bool:
    return path.startswith(GENERATED) and not path.startswith(KEPT)


@cache
def texts() -> dict[Path, str]:
    """Path → what a person reads in it: of Python files docstrings and comments."""
    found = {}
    for path in files():
        if path.suffix in TEXTS or path.name in {"Makefile", "run"}:
            content = path.read_text("utf-8")
            found[path] = prose(content) if path.suffix == ".py" else content
    return found


def prose(source: str) -> str:
    """Docstrings and comments of a module."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return "\n".join([*(ast.get_docstring(node) or "" for node in nodes), *comments])


def dangling(path: Path, text: str) -> Iterator[str]:
    """Paths in a text that lead nowhere."""
    for cited in PATH.findall(text):
        if "/" in cited:
            bases = (ROOT, path.parent, ROOT / "recoflow", ROOT / "recoflow_tests")
            if not is_generated(cited) and not any((base / cited).exists() for base in bases):
                yield cited
        elif cited.endswith((".py", ".md")) and cited not in names_of_files():
            yield cited
    yield from (folder for folder in FOLDER.findall(text) if not (ROOT / folder).is_dir())


@cache
def names_of_files() -> frozenset[str]:
    return frozenset(path.name for path in files())


def headings(text: str) -> set[str]:
    """Anchors of a Markdown text, as forges make them."""
    lines = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", lines, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(path: Path, text: str) -> Iterator[str]:
    """Relative links of a Markdown text that lead nowhere."""
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        cited = path.parent / target if target else path
        if not cited.exists() or (anchor and anchor not in headings(cited.read_text("utf-8"))):
            yield link


@cache
def modules() -> dict[str, tuple[str, ...]]:
    """Short name → full names of the modules that have it."""
    found: dict[str, tuple[str, ...]] = {}
    for path in (ROOT / "recoflow").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        full = parts[:-1] if parts[-1] == "__init__" else parts
        found[full[-1]] = (*found.get(full[-1], ()), ".".join(full))
    return found


def is_attribute(module: str, names: Iterable[str]) -> bool:
    """Whether the chain of names leads to something in the module; a field of a class counts without a value."""
    found: object = importlib.import_module(module)
    for name in names:
        if isinstance(found, type) and name in getattr(found, "__annotations__", {}):
            return True
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def is_in_package(name: str) -> bool:
    """Whether a full name is that of a module, or of something in one."""
    module, rest = name.split("."), list[str]()
    while module:
        if ".".join(module) in modules().get(module[-1], ()):
            return is_attribute(".".join(module), rest)
        rest.insert(0, module.pop())
    return False


def is_setting(name: str) -> bool:
    """Whether a dotted name is a key of an environment's file."""
    fields = Environment.model_fields
    for key in name.split("."):
        if key not in fields:
            return False
        fields = getattr(fields[key].annotation, "model_fields", {})
    return True


def unknown_names(text: str) -> Iterator[str]:
    """Dotted names that cannot be found: of the package, of its parts, and of constants and classes of modules."""
    parts = {path.stem for path in (ROOT / "recoflow").iterdir()}
    for name in NAME.findall(text):
        first, second = name.split(".")[:2]
        if name.endswith(FILES) or name in names_of_files():
            continue
        if first == "recoflow":
            is_known = is_in_package(name)
        elif first in parts:
            is_known = is_in_package(f"recoflow.{name}") or is_setting(name) or is_of_a_module(name)
        elif first in modules() and second[:1].isupper():
            is_known = is_of_a_module(name)
        else:
            continue
        if not is_known:
            yield name


def is_of_a_module(name: str) -> bool:
    """Whether a name that begins with a module's short name is in one of these modules."""
    first, *rest = name.split(".")
    return any(is_attribute(module, rest) for module in modules().get(first, ()))


@cache
def errors() -> frozenset[str]:
    """Names of the classes of errors: Python's and the package's."""
    sources = [path.read_text("utf-8") for path in (ROOT / "recoflow").rglob("*.py")]
    return frozenset(re.findall(r"^ *class (\w+Error)\b", "\n".join(sources), re.MULTILINE)) | {*dir(builtins)}


def unknown_errors(text: str) -> Iterator[str]:
    """Names in the `Raises:` sections of a text that no class has."""
    for section in RAISES.findall(text):
        yield from (name for name in re.findall(r"\b[A-Z]\w*Error\b", section) if name not in errors())


def test_every_file_that_is_cited_exists() -> None:
    found = [f"{path.relative_to(ROOT)}: {cited}" for path, text in texts().items() for cited in dangling(path, text)]
    assert found == []


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    pages = {path: text for path, text in texts().items() if path.suffix == ".md"}
    found = [f"{path.relative_to(ROOT)}: {link}" for path, text in pages.items() for link in broken_links(path, text)]
    assert found == []


def test_every_dotted_name_is_that_of_a_module_an_attribute_or_a_setting() -> None:
    found = [f"{path.relative_to(ROOT)}: {name}" for path, text in texts().items() for name in unknown_names(text)]
    assert found == []


def test_every_error_that_a_docstring_says_is_raised_exists() -> None:
    sources = {path: text for path, text in texts().items() if path.is_relative_to(ROOT / "recoflow")}
    found = [f"{path.relative_to(ROOT)}: {name}" for path, text in sources.items() for name in unknown_errors(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("see recoflow/nowhere.py", ["recoflow/nowhere.py"]),
        ("(spec/SFTP.md).", ["spec/SFTP.md"]),
        ("how rows are held (stored.py)", ["stored.py"]),
        ("in `recoflow/sources`", ["recoflow/sources"]),
        ("formats/files.py, CHANGELOG.md, data/lake/x.yaml, *.yaml, /etc/x.service, `docs/spec`", []),
    ],
)
def test_a_file_that_is_missing_is_found(text: str, cited: list[str]) -> None:
    assert list(dangling(ROOT / "README.md", text)) == cited


def test_an_error_that_is_unknown_is_found() -> None:
    assert list(unknown_errors("Read it.\n\nRaises:\n    OSError, RefusedError: no.")) == ["RefusedError"]


def test_a_link_that_is_broken_is_found() -> None:
    text = "[a](docs/none.md) [b](README.md#no-such-heading) [c](https://example.com) [d](CHANGELOG.md#changelog)"
    assert list(broken_links(ROOT / "README.md", text)) == ["docs/none.md", "README.md#no-such-heading"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("`recoflow.sources`, `recoflow.formats.files`, `recoflow.schema.EVENTS`", ["recoflow.sources"]),
        ("`storage.registry`, `storage.sftp.mailbox`, `campaigns.max_lists`", ["storage.registry"]),
        ("`schema.REJECTS`, `schema.NOTHING`, `matrix.data`", ["schema.NOTHING"]),
    ],
)
def test_a_name_that_is_unknown_is_found(text: str, names: list[str]) -> None:
    assert list(unknown_names(text)) == names


def test_only_docstrings_and_comments_are_prose() -> None:
    source = '"""One."""\nx = "two"  # three\ndef f():\n    """Four."""\n'
    assert prose(source).split("\n") == ["One.", "Four.", "# three"]
