"""Every <test> of every form, in a real Galaxy that has only what the Tool Shed ships."""

from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from conftest import FORMS
from server import GalaxyServer
from tool_tests import ToolTestResult, run_tool_tests

TESTS = [(form.stem, index) for form in FORMS for index in range(len(ElementTree.parse(form).findall("tests/test")))]


@pytest.fixture(scope="module")
def results(galaxy: GalaxyServer, announce: Callable[[str], None]) -> dict[tuple[str, int], ToolTestResult]:
    """Run them all at once, two at a time, saying each as it ends."""
    found = run_tool_tests(galaxy, announce=announce)
    return {(result.tool_id, result.index): result for result in found}


@pytest.mark.parametrize(("tool", "index"), TESTS, ids=[f"{tool}-{index + 1}" for tool, index in TESTS])
def test_of_the_form(results: dict[tuple[str, int], ToolTestResult], tool: str, index: int) -> None:
    result = results[tool, index]
    assert result.passed, result.problem
