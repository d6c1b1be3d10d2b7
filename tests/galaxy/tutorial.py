"""The tutorial: prose and steps of tests/galaxy/tutorial, told with the forms of today and the results of a real run.

Steps are YAML in blocks called `step`; `{{step.output[column=value][-1].column:.2f}}` in the prose is a number of a table
that a step made, `|mean` and `|count` sum rows up. What is made of them is workflows/tutorial, by make_tutorial.py.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from forms import Dataset, Entry, Form, Output

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = CHECKOUT / "tests" / "galaxy" / "tutorial"
PAGE = CHECKOUT / "workflows" / "tutorial" / "README.md"
NOTE = "<!-- Made by tests/galaxy/make_tutorial.py from tests/galaxy/tutorial: change that, not this. -->"
STEP = re.compile(r"^```step\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
PART = re.compile(r"^## (\d+)\. ", re.MULTILINE)
LOOKUP = re.compile(r"\{\{(\w+)\.(\w+)((?:\[[^\]]*\])*)(?:\.(\w+))?(?:\|(mean|count))?(?::([^}]+))?\}\}")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
DECIMALS = 3
LINE = "line"

Tables = Mapping[str, list[dict[str, str]]]


@dataclass(frozen=True)
class Step:
    """A form to fill in: `values` by place, `show` what of its outputs is shown, `number` its place in the page."""

    name: str
    number: str
    title: str
    form: Form
    values: dict[str, Any]
    show: list[dict[str, Any]]


class Tutorial:
    """The source, read: front matter, the data to upload, and prose and steps in their order."""

    def __init__(self, source: Path = SOURCE / "tutorial.md", tools: Path = CHECKOUT / "tools") -> None:
        head, _, body = source.read_text().removeprefix("---\n").partition("\n---\n")
        self.front: dict[str, Any] = yaml.safe_load(head)
        self.data: dict[str, str] = self.front.pop("data")
        self.prose = STEP.split(body)[::2]
        self.steps: dict[str, Step] = {}
        part = within = 0
        for text, block in zip(self.prose, STEP.findall(body), strict=False):
            if parts := PART.findall(text):
                part, within = int(parts[-1]), 0
            within += 1
            said = yaml.safe_load(block)
            form = Form(tools / f"{said['tool']}.xml")
            number = f"{part}.{within}"
            step = Step(said["name"], number, said["title"], form, said["values"], said.get("show", []))
            self.steps[step.name] = step

    def entries(self, step: Step) -> list[Entry]:
        """Return the fields of a step's form that are filled in."""
        return step.form.entries(step.values, self._dataset)

    def needs(self, step: Step) -> list[str]:
        """Return the names of the datasets that a step reads: files of test-data, and `step.output`."""
        return [name for entry in self.entries(step) if isinstance(entry.given, list) for name in entry.given]

    def outputs(self, step: Step) -> dict[str, Output]:
        """Return a step's outputs by name."""
        return step.form.outputs([self._dataset(name).file for name in self.needs(step)])

    def tables(self) -> set[str]:
        """Return the tables and texts that the page shows or takes numbers from, as `step.output`."""
        told = {f"{found[1]}.{found[2]}" for text in self.prose for found in LOOKUP.finditer(text)}
        return told | self._shown("table") | self._shown("text")

    def pictures(self) -> set[str]:
        """Return the pictures that the page shows, as `step.output`."""
        return self._shown("picture")

    def commands(self) -> dict[str, str]:
        """Return what a shell runs instead of each step."""
        wanted = self._read() | self.tables() | self.pictures()
        return {name: self._command(step, wanted) for name, step in self.steps.items()}

    def file(self, name: str) -> str:
        """Return the file in which a shell's command leaves `step.output`."""
        return self._dataset(name).file

    def render(self, tables: Tables) -> str:
        """Return the page, with the numbers of `tables`."""
        used = {name for name in self._read() if name.partition(".")[0] not in self.steps}
        if used != self.data.keys():
            raise ValueError(f"Steps read {sorted(used)}, the data to upload are {sorted(self.data)}.")
        told = [self._told(step, tables) for step in self.steps.values()]
        pieces = [piece for pair in zip(self.prose, [*told, ""], strict=True) for piece in pair]
        body = LOOKUP.sub(lambda found: looked_up(tables, found), "".join(pieces))
        body = body.replace("```upload\n```\n", self._upload()).replace("```shell\n```\n", self._shell())
        front = yaml.safe_dump(self.front, sort_keys=False, allow_unicode=True, width=1000)
        return f"---\n{front}---\n\n{NOTE}\n{body}"

    def _shown(self, kind: str) -> set[str]:
        return {f"{step.name}.{item[kind]}" for step in self.steps.values() for item in step.show if kind in item}

    def _read(self) -> set[str]:
        return {name for step in self.steps.values() for name in self.needs(step)}

    def _dataset(self, name: str) -> Dataset:
        step, _, output = name.partition(".")
        if step not in self.steps:
            path = CHECKOUT / "test-data" / name
            columns = path.read_text().partition("\n")[0].split("\t") if path.suffix == ".tsv" else []
            return Dataset(f"`{name}`", f"test-data/{name}", columns)
        made = self.outputs(self.steps[step])[output]
        slug = re.sub(r"\W+", "_", made.label).strip("_")
        return Dataset(f"*{made.label}* of step {self.steps[step].number}", f"{step}_{slug}.{made.suffix}")

    def _command(self, step: Step, wanted: set[str]) -> str:
        words = ["python", f"scripts/{step.form.tool_id}.py"]
        words += [word for entry in self.entries(step) for word in entry.words]
        for output in self.outputs(step).values():
            if step.form.required(output.option) or f"{step.name}.{output.name}" in wanted:
                words += [output.option, self._dataset(f"{step.name}.{output.name}").file]
        return shlex.join(words)

    def _told(self, step: Step, tables: Tables) -> str:
        """Return a step as a box of the Galaxy Training Network, and what comes out."""
        lines = [f"**Hands-on {step.number}: {step.title}**", "", f"**{step.form.name}** with these parameters:", ""]
        sections: tuple[str, ...] = ()
        for entry in self.entries(step):
            depth = common(sections, entry.sections)
            lines += [f"{'  ' * level}- in *{entry.sections[level]}*:" for level in range(depth, len(entry.sections))]
            lines.append(f"{'  ' * len(entry.sections)}- *{entry.label}*: {entry.shown}")
            sections = entry.sections
        box = "\n".join(f"> {line}".rstrip() for line in lines)
        return "\n\n".join([box, *(self._result(step, item, tables) for item in step.show)]) + "\n"

    def _result(self, step: Step, item: Mapping[str, Any], tables: Tables) -> str:
        if "picture" in item:
            return f"![{item['alt']}](images/{step.name}_{item['picture']}.png)"
        if "text" in item:
            lines = [row[LINE] for row in tables[f"{step.name}.{item['text']}"][: item["first"]]]
            return "\n".join(["```text", *lines, "```"])
        rows = tables[f"{step.name}.{item['table']}"]
        rows = [row for row in rows if all(row[column] == value for column, value in item.get("rows", {}).items())]
        columns = item.get("columns") or list(rows[0])
        said = [columns, ["---"] * len(columns)]
        said += [[rounded(row[column]) for column in columns] for row in rows[: item.get("first")]]
        return "\n".join(f"| {' | '.join(row)} |" for row in said)

    def _upload(self) -> str:
        return "".join(f"> - [`{name}`](../../test-data/{name}): {what}\n" for name, what in self.data.items())

    def _shell(self) -> str:
        commands = self.commands()
        said = [f"# {step.number} {step.title}\n{commands[step.name]}\n" for step in self.steps.values()]
        return f"```sh\n{''.join(said)}```\n"


def looked_up(tables: Tables, found: re.Match[str]) -> str:
    """Return the text of a number of a table."""
    step, output, filters, column, summary, form = found.groups()
    rows = tables[f"{step}.{output}"]
    for chosen in re.findall(r"\[([^\]]*)\]", filters):
        name, sign, value = chosen.partition("=")
        rows = [row for row in rows if row[name] == value] if sign else [rows[int(name)]]
    if summary == "count":
        return str(len(rows))
    values = [row[column] for row in rows]
    if summary == "mean":
        values = [str(sum(map(float, values)) / len(values))]
    (value,) = values
    return format(float(value), form) if form else value


def rounded(text: str) -> str:
    """Return a cell; of a number with a fraction some decimals."""
    if re.fullmatch(r"-?\d+\.\d+(e[+-]?\d+)?", text) is None:
        return text.replace("|", "\\|").replace("<", "&lt;") or " "
    number = float(text)
    return f"{number:.{DECIMALS}f}" if abs(number) >= 10**-DECIMALS or number == 0 else f"{number:.1e}"


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many titles two places share from the outside in."""
    shared = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared += 1
    return shared


def read_tables(folder: Path = SOURCE / "tables") -> dict[str, list[dict[str, str]]]:
    """Return the tables of a run, `step.output` → rows, from files called so; of a text each line is a row."""
    found = {}
    for path in folder.iterdir():
        lines = path.read_text().splitlines()
        is_table = path.suffix == ".tsv"
        found[path.stem] = list(csv.DictReader(lines, delimiter="\t")) if is_table else [{LINE: line} for line in lines]
    return found


def differences(page: str, other: str) -> Iterator[str]:
    """Yield the lines in which two pages differ: in words, or in numbers by more than machines do.

    Numbers with decimals may differ by two percent and by one and a half units of their last place.
    """
    lines, others = page.splitlines(), other.splitlines()
    if len(lines) != len(others):
        yield f"{len(lines)} lines, and {len(others)}"
    for line, its in zip(lines, others, strict=False):
        words, numbers, its_words, its_numbers = *torn(line), *torn(its)
        if words != its_words or not all(map(near, numbers, its_numbers)):
            yield f"{line}\n{its}"


def torn(line: str) -> tuple[list[str], list[str]]:
    """Return what stands between the numbers of a line, and the numbers."""
    return NUMBER.split(line), NUMBER.findall(line)


def near(number: str, other: str) -> bool:
    """Return whether two numbers are the same but for what machines change in the last digits."""
    if number == other:
        return True
    if "." not in number or "." not in other:
        return False
    digits, _, exponent = number.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    return abs(float(number) - float(other)) <= max(0.02 * abs(float(number)), 1.5 * unit)
