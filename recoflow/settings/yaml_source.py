"""YAML files whose every key knows its line, and pydantic's complaints as places, problems and cures.

What belongs here: reading, the base of all sections, and explaining what one refuses. What does not: which keys there
are (`environment`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pydantic
import yaml

from recoflow.errors import ConfigurationError

Place = tuple[str | int, ...]


class Section(pydantic.BaseModel):
    """A part of the file: unknown keys are errors, values never change."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class PlacedError(ValueError):
    """Raised by a model's validator for one value below the validated one.

    Args:
        place: keys that lead there from the validated value.
        problem: what is wrong with it.
    """

    def __init__(self, place: Place, problem: str) -> None:
        self.place = place
        super().__init__(problem)


def read_yaml(path: Path, sample: str) -> tuple[Any, dict[Place, int]]:
    """The mapping in a file, and the line of each of its keys.

    Args:
        path: the file.
        sample: a file that shows what it looks like, for the cure of one that is missing.

    Raises:
        ConfigurationError: naming file and line.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except FileNotFoundError:
        raise ConfigurationError(str(path), "does not exist", f"Copy {sample} and change it") from None
    except OSError as error:
        cure = "Give this user the right to read it"
        raise ConfigurationError(str(path), f"cannot be read: {error.strerror}", cure) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), f"is not UTF-8 text: {error}", "Save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(f"{path}:{line}", f"is not YAML: {error.problem}", "Mend this line") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(str(path), f"is not YAML: {error}", "Mend the file") from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigurationError(f"{path}:1", "is not a mapping of keys", "Begin with `name: …`")
    lines = dict(_lines(node, (), path))
    return yaml.SafeLoader("").construct_document(node), lines


def with_values(text: str, place: Place, values: Mapping[str, Any]) -> str:
    """The YAML text with values set in the mapping at a place; comments and everything else stay as they are.

    A key that is there gets the new value where the old one stood; others follow the last one.

    Args:
        text: YAML that can be read.
        place: keys that lead to the mapping, which must stand in the text.
        values: numbers or texts by key.

    Raises:
        KeyError: there is no mapping at that place.
    """
    node = yaml.compose(text, yaml.SafeLoader)
    for name in place:
        node = next((value for key, value in _pairs(node) if key.value == name), None)
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise KeyError(dotted(place))
    present = {key.value: value for key, value in node.value}
    edits = [
        (present[key].start_mark.index, present[key].end_mark.index, _scalar(value))
        for key, value in values.items()
        if key in present
    ]
    added = [f"{key}: {_scalar(value)}" for key, value in values.items() if key not in present]
    first, last = node.value[0][0], node.value[-1][1]
    joint = ", " if node.flow_style else "\n" + " " * first.start_mark.column
    end = last.end_mark.index
    if not node.flow_style:  # behind the comment of the last line
        end += len(text[end:].partition("\n")[0])
    edits.append((end, end, "".join(joint + line for line in added)))
    for begin, end, new in sorted(edits, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def _pairs(node: Any) -> list[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("...").strip()


def line_of(lines: Mapping[Place, int], place: Place) -> int:
    """The line of the nearest key at or above a place."""
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 1)


def explain_yaml_error(
    model: type[pydantic.BaseModel], error: pydantic.ValidationError, sample: str
) -> tuple[Place, str, str]:
    """Place, problem and cure of the first thing that a model refuses.

    Args:
        model: that refused.
        error: what it said.
        sample: a text or file that shows every key.
    """
    first = error.errors(include_url=False)[0]
    raised = first.get("ctx", {}).get("error")
    below: Place = raised.place if isinstance(raised, PlacedError) else ()
    place: Place = (*first["loc"], *below)
    if first["type"] == "extra_forbidden":
        keys = _keys_at(model, place[:-1])
        close = difflib.get_close_matches(str(place[-1]), keys, n=1)
        cure = f"Did you mean '{close[0]}'?" if close else f"Known keys here: {', '.join(keys)}"
        return place, "is not a known key", cure
    if first["type"] == "missing":
        return place, "is missing", f"Add '{place[-1]}'; {sample} shows it"
    found = _at(first["input"], below)
    return place, f"{first['msg'].removeprefix('Value error, ')} (found: {found!r})", "Correct this value"


def _at(value: Any, below: Place) -> Any:
    """The value at a place below a validated one, which is text, a mapping or a section."""
    for key in below:
        value = getattr(value, str(key)) if isinstance(value, Section) else value[key]
    return value


def dotted(place: Place) -> str:
    """A place as people write it."""
    return ".".join(map(str, place))


def _lines(node: yaml.Node, path: Place, file: Path) -> Iterator[tuple[Place, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                culprit = f"{file}:{key.start_mark.line + 1}: {dotted((*path, key.value))}"
                raise ConfigurationError(culprit, "stands twice", "Remove one of the two")
            seen.add(key.value)
            yield (*path, key.value), key.start_mark.line + 1
            for below in _lines(value, (*path, key.value), file):
                if below[0] != (*path, key.value):
                    yield below
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index), file)


def _keys_at(start: type[pydantic.BaseModel], place: Place) -> list[str]:
    model: Any = start
    for key in place:
        fields = getattr(model, "model_fields", {})
        annotation = fields[key].annotation if key in fields else model
        nested = [each for each in (annotation, *get_args(annotation)) if hasattr(each, "model_fields")]
        model = nested[0] if nested else annotation
    return sorted(field.alias or name for name, field in getattr(model, "model_fields", {}).items())
