"""Form and script agree: every argument of a form is an option of its script, and every option is on the form."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import FORMS
from galaxy.util.xml_macros import load

# What the destination, the admin or Galaxy itself sets: never on a form.
MACHINE = {"--device", "--threads", "--batch-tokens", "--processes"}
FILES = {
    "--output",
    "--checkpoint",
    "--metrics",
    "--predictions",
    "--records",
    "--log",
    "--figure",
    "--card",
    "--summary",
    "--table",
    "--bed",
    "--statistics",
    "--groups",
    "--comparisons",
    "--classification",
    "--curves",
    "--output-directory",
    "--output-table",
    "--output-vcf",
    "--track",
    "--tracks",
    "--calls",
    "--probabilities",
    "--installed",
    "--downloads",
    "--failed",
    "--timing",
    "--journal",
    "--track-names",
}
# Outputs of one tool that another reads.
READ_ELSEWHERE = {"--calls", "--tracks"}
# What a row of the admin's table of endpoints says.
OF_AN_ENDPOINT = {"--endpoint-name", "--authorization", "--max-bases", "--special-first", "--special-last"}
NOT_ON_A_FORM = {"--help", "--version", *MACHINE, *FILES, *OF_AN_ENDPOINT}
MOST_OPEN_FIELDS = 6

pytestmark = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)


def tool(form: Path) -> Any:
    return load(form).getroot()


def options_of(form: Path) -> dict[str, Any]:
    parser = importlib.import_module(form.stem).parser()
    return {action.option_strings[-1]: action for action in parser._actions}


def params(root: Any) -> list[Any]:
    return [param for param in root.find("inputs").iter("param") if param.get("argument")]


def booleans(root: Any) -> list[Any]:
    return [param for param in params(root) if param.get("type") == "boolean"]


def test_every_argument_of_the_form_is_an_option_of_the_script(form: Path) -> None:
    assert {param.get("argument") for param in params(tool(form))} <= options_of(form).keys()


def test_every_option_of_the_script_is_on_the_form_or_the_machines(form: Path) -> None:
    on_the_form = {param.get("argument") for param in params(tool(form))}
    assert options_of(form).keys() - (NOT_ON_A_FORM - (on_the_form & READ_ELSEWHERE)) == on_the_form


def test_the_command_passes_every_option_but_help_and_version(form: Path) -> None:
    root = tool(form)
    flags = " ".join(param.get("truevalue") for param in booleans(root))
    command = f"{root.find('command').text} {flags}"
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", command)) == options_of(form).keys() - {"--help", "--version"}


def test_selects_offer_the_scripts_choices_and_default(form: Path) -> None:
    """A choice may be told in several branches of the form: the first has the default, all together every choice."""
    root = tool(form)
    for argument in {param.get("argument") for param in params(root)}:
        told = [param for param in params(root) if param.get("argument") == argument]
        action = options_of(form)[argument]
        fixed = [option for param in told for option in param.findall("option")]
        if fixed:
            assert {option.get("value") for option in fixed} == set(action.choices)
            selected = [option.get("value") for option in told[0] if option.get("selected") == "true"]
            assert selected == ([] if action.default is None else [action.default])
        elif told[0].get("value") is not None and action.default is not None:
            assert told[0].get("value") == str(action.default)


def test_every_param_has_an_argument_or_chooses_a_branch(form: Path) -> None:
    root = tool(form)
    choosers = [conditional.find("param") for conditional in root.iter("conditional")]
    for param in root.find("inputs").iter("param"):
        assert param.get("argument") or param in choosers
        assert param.get("label")


def test_at_most_six_fields_are_open(form: Path) -> None:
    """Of the form as it opens: every chooser stands at its default."""

    def open_fields(element: Any) -> int:
        if element.tag == "section":
            return 0 if element.get("expanded") == "false" else sum(map(open_fields, element))
        if element.tag == "conditional":
            options = element.find("param").findall("option")
            chosen = next((option for option in options if option.get("selected") == "true"), options[0]).get("value")
            (branch,) = (when for when in element.findall("when") if when.get("value") == chosen)
            return 1 + sum(map(open_fields, branch))
        return 1 if element.tag == "param" else sum(map(open_fields, element))

    assert open_fields(tool(form).find("inputs")) <= MOST_OPEN_FIELDS


def test_texts_in_the_command_are_quoted(form: Path) -> None:
    """No value of a form reaches the shell outside single quotes."""
    root = tool(form)
    flags = "|".join(param.get("name") or param.get("argument")[2:].replace("-", "_") for param in booleans(root))
    for line in root.find("command").text.splitlines():
        if not line.strip().startswith("#"):
            outside = re.sub(r"'[^']*'", "", line).replace("\\$", "")
            assert "$" not in re.sub(rf"\$[a-z_.]*\b({flags})$", "", outside)
