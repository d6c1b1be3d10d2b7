"""What the admin's guide says is so."""

import re
from xml.etree import ElementTree

import pytest
import yaml
from conftest import FORMS, REPOSITORY

GUIDE = (REPOSITORY / "ADMIN.md").read_text()
SHED = {name: yaml.safe_load((REPOSITORY / name / ".shed.yml").read_text()) for name in (".", "tools/data_manager")}


def rows(heading: str) -> dict[str, str]:
    """Return the first two columns of the first table below a heading."""
    section = GUIDE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {row[0].strip(" `"): row[1].strip(" `") for row in found[2:]}


def test_it_names_every_limit_that_forms_and_scripts_read() -> None:
    written = "".join(path.read_text() for path in [REPOSITORY / "macros.xml", *FORMS])
    assert set(re.findall(r"GALAXY_(?:DNALM_[A-Z_]+|SLOTS)", written)) <= rows("Limits by environment").keys()


def test_it_names_the_columns_of_the_data_table() -> None:
    tables = ElementTree.parse(REPOSITORY / "tool_data_table_conf.xml.sample")
    (columns,) = (table.findtext("columns") for table in tables.iter("table") if table.get("name") == "huggingface")
    assert list(rows("Models")) == re.split(r",\s*", columns or "")


def test_its_commands_name_the_repositories() -> None:
    commands = re.findall(r"^shed-tools install .*$", GUIDE, re.MULTILINE)
    named = {tuple(re.findall(r"--(?:owner|name) (\S+)", command)) for command in commands}
    assert named == {(description["owner"], description["name"]) for description in SHED.values()}


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
def test_its_settings_can_be_read(block: str) -> None:
    assert isinstance(yaml.safe_load(block), dict)


def test_its_links_and_targets_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", GUIDE):
        assert target.startswith("https://") or (REPOSITORY / target).exists()
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", GUIDE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
