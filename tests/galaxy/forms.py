"""A tool's form as a person reads it: which fields, under which labels, with which values; and the same for a shell."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galaxy.util.xml_macros import load

YES_OR_NO = {True: "Yes", False: "No"}
SUFFIXES = {"tabular": "tsv", "vcf_bgzip": "vcf.gz", "bigwig": "bw"}


class FormError(ValueError):
    """A form has no such field, or does not take the value; the message says which."""


@dataclass(frozen=True)
class Dataset:
    """What a field of the form is given: how a reader and a shell know it, and the names of a table's columns."""

    shown: str
    file: str
    columns: Sequence[str] = ()


@dataclass(frozen=True)
class Entry:
    """One field that is filled in: its place `section|name`, the sections' titles and its label, what stands there.

    `words` are what a shell passes instead, `given` what Galaxy's API takes: a text, or names of datasets.
    """

    path: str
    sections: tuple[str, ...]
    label: str
    shown: str
    words: tuple[str, ...]
    given: str | list[str]


@dataclass(frozen=True)
class Output:
    """One output: its name, what its label says it is, the option by which the script gets its path, its suffix."""

    name: str
    label: str
    option: str
    suffix: str


class Form:
    """A tool's form with its macros expanded, and the options of its script."""

    def __init__(self, path: Path) -> None:
        root: Any = load(path).getroot()
        self.tool_id: str = root.get("id")
        self.name: str = root.get("name")
        self._inputs = root.find("inputs")
        self._outputs = root.findall("outputs/data")
        self._command: str = root.find("command").text
        parser = importlib.import_module(self.tool_id).parser()
        self._options = {action.option_strings[-1]: action for action in parser._actions}

    def entries(self, values: Mapping[str, Any], dataset: Callable[[str], Dataset]) -> list[Entry]:
        """Return the fields of `values` (place → value) in the order of the form.

        Raises:
            FormError: a place is not on the form as the other values open it, or a value cannot be entered there.
        """
        found = list(self._walk(self._inputs, "", (), values, dataset))
        if missing := values.keys() - {entry.path for entry in found}:
            raise FormError(f"{self.tool_id} has no field {', '.join(sorted(missing))} where the other values lead.")
        return found

    def outputs(self, inputs: Sequence[str] = ()) -> dict[str, Output]:
        """Return the outputs by name; `inputs` are the files whose suffix some outputs take."""
        found = {}
        for element in self._outputs:
            name = element.get("name")
            label = element.get("label").partition("${on_string}")[2].lstrip(": ")
            suffix = SUFFIXES.get(element.get("format"), element.get("format")) or inputs[0].rpartition(".")[2]
            passed = re.search(rf"(--[\w-]+)[ =]'\${name}'", self._command)
            if passed is None:
                raise FormError(f"{self.tool_id} passes no option for its output {name}.")
            found[name] = Output(name, label or "output", passed[1], suffix)
        return found

    def required(self, option: str) -> bool:
        """Return whether the script does not run without an option."""
        return bool(self._options[option].required)

    def _walk(
        self,
        element: Any,
        prefix: str,
        sections: tuple[str, ...],
        values: Mapping[str, Any],
        dataset: Callable[[str], Dataset],
    ) -> Iterable[Entry]:
        for child in element:
            if child.tag == "param":
                path = prefix + name_of(child)
                if path in values:
                    yield self._entry(child, path, sections, values, dataset)
            elif child.tag == "section":
                inner = f"{prefix}{child.get('name')}|"
                yield from self._walk(child, inner, (*sections, child.get("title")), values, dataset)
            elif child.tag == "conditional":
                inner = f"{prefix}{child.get('name')}|"
                chooser = child.find("param")
                path = inner + name_of(chooser)
                if path in values:
                    yield self._entry(chooser, path, sections, values, dataset)
                chosen = values.get(path, default_of(chooser))
                for branch in child.findall("when"):
                    if branch.get("value") == chosen:
                        yield from self._walk(branch, inner, sections, values, dataset)

    def _entry(
        self,
        param: Any,
        path: str,
        sections: tuple[str, ...],
        values: Mapping[str, Any],
        dataset: Callable[[str], Dataset],
    ) -> Entry:
        value = values[path]
        kind = param.get("type")
        given: str | list[str] = str(value)
        if kind == "data":
            given = value if isinstance(value, list) else [value]
            if len(given) > 1 and param.get("multiple") != "true":
                raise FormError(f"{self.tool_id} takes one dataset as {path}.")
            datasets = [dataset(name) for name in given]
            shown, texts = ", ".join(known.shown for known in datasets), [known.file for known in datasets]
        elif kind == "data_column":
            columns = dataset(values[path.rpartition("|")[0] + "|" + param.get("data_ref")]).columns
            if value not in columns:
                raise FormError(f"{path} of {self.tool_id} has no column {value}.")
            given = str(columns.index(value) + 1)
            shown, texts = f"`c{given}: {value}`", [str(value)]
        elif kind == "boolean":
            given = str(value).lower()
            shown, texts = f"`{YES_OR_NO[value]}`", []
        elif kind == "select":
            shown, texts = f"`{self._option(param, path, str(value))}`", [str(value)]
        else:
            self._check_bounds(param, path, value)
            shown, texts = f"`{value}`", [str(value)]
        words = self._words(param, texts, value)
        return Entry(path, sections, param.get("label"), shown, words, given)

    def _option(self, param: Any, path: str, value: str) -> str:
        for option in param.findall("option"):
            if option.get("value") == value:
                return str(option.text)
        raise FormError(f"{path} of {self.tool_id} does not offer {value}.")

    def _check_bounds(self, param: Any, path: str, value: Any) -> None:
        for bound, sign in (("min", 1), ("max", -1)):
            if param.get(bound) is not None and sign * float(value) < sign * float(param.get(bound)):
                raise FormError(f"{path} of {self.tool_id} takes {value} no more: its {bound} is {param.get(bound)}.")

    def _words(self, param: Any, texts: list[str], value: Any) -> tuple[str, ...]:
        """Return the words of a shell: the option and its values, repeated where the script wants it so."""
        option = param.get("argument")
        if option is None:
            return ()
        if param.get("type") == "boolean":
            return tuple((param.get("truevalue") if value else param.get("falsevalue")).split())
        if isinstance(self._options[option], argparse._AppendAction):
            texts = [part for text in texts for part in text.split(",")]
            return tuple(word for text in texts for word in (option, text))
        return (option, *texts)


def name_of(param: Any) -> str:
    """Return a param's name, which follows from its argument where it is not given."""
    return str(param.get("name") or param.get("argument").lstrip("-").replace("-", "_"))


def default_of(chooser: Any) -> str:
    """Return the value of a select as the form opens."""
    options = chooser.findall("option")
    chosen = [option for option in options if option.get("selected") == "true"]
    return str((chosen or options)[0].get("value"))
