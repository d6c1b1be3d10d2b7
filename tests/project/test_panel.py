"""The sample of the tool panel has every tool once."""

from xml.etree import ElementTree

from conftest import FORMS, REPOSITORY

PANEL = REPOSITORY / "tool-data" / "tool_conf_dnalm.sample.xml"


def test_every_tool_stands_in_the_panel_once() -> None:
    named = [tool.get("file", "") for tool in ElementTree.parse(PANEL).iter("tool")]
    tools = [form.relative_to(REPOSITORY).as_posix() for form in FORMS if form.stem != "data_manager_dnalm"]
    assert sorted(named) == sorted(tools)


def test_labels_have_ids_of_their_own() -> None:
    labels = [label.get("id") for label in ElementTree.parse(PANEL).iter("label")]
    assert len(set(labels)) == len(labels) > 1
