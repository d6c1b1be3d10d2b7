"""Every step of a workflow has every field of its form, as the form is today: Galaxy runs no workflow that lacks one.

After a change of a form: tests/galaxy/make_workflows.py.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import FORMS, REPOSITORY
from galaxy.util.xml_macros import load

WORKFLOWS = sorted((REPOSITORY / "workflows").glob("*/*.ga"))
FORM_OF = {form.stem: form for form in FORMS}


def name_of(param: Any) -> str:
    return param.get("name") or param.get("argument").lstrip("-").replace("-", "_")


def missing(fields: Any, state: dict[str, Any], place: str) -> Iterator[str]:
    """Yield the fields of a form, or of a part of it, that a step's state lacks."""
    for element in fields:
        if element.tag not in ("param", "section", "conditional"):
            continue
        name = name_of(element)
        here = f"{place}|{name}".lstrip("|")
        if name not in state:
            yield here
        elif element.tag == "section":
            yield from missing(element, state[name], here)
        elif element.tag == "conditional":
            chosen = element.find("param")
            yield from missing([chosen], state[name], here)
            value = state[name].get(name_of(chosen))
            branch = next(when for when in element.iter("when") if when.get("value") == value)
            yield from missing(branch, state[name], here)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_have_every_field(path: Any) -> None:
    steps = json.loads(path.read_text())["steps"].values()
    tools = [step for step in steps if step["type"] == "tool"]
    assert tools
    for step in tools:
        inputs = load(FORM_OF[step["tool_id"]]).getroot().find("inputs")
        lacks = set(missing(inputs, json.loads(step["tool_state"]), "")) - step["input_connections"].keys()
        assert not lacks, f"{step['label']}: make workflows anew"
