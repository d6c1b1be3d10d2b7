"""One place for each fact: scripts/requirements.txt rules macros.xml and the README."""

import re
from xml.etree import ElementTree

import dnalm
from conftest import REPOSITORY

# Elsewhere both have the same name.
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "pyBigWig": "pybigwig",
    "igraph": "python-igraph",
}


def pinned() -> dict[str, str]:
    lines = (REPOSITORY / "scripts" / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_macros_require_the_pinned_versions() -> None:
    macros = ElementTree.parse(REPOSITORY / "macros.xml")
    found = {(item.text, item.get("version")) for item in macros.iter("requirement")}
    assert found == {(CONDA_NAMES.get(name, name), version) for name, version in pinned().items()}


def test_the_admins_guide_tells_what_conda_calls_otherwise() -> None:
    guide = (REPOSITORY / "ADMIN.md").read_text()
    assert (
        dict(
            re.findall(
                r"^\| (\w+) \| ([\w-]+) \|$", guide.partition("| PyPI | conda |")[2].partition("\n\n")[0], re.MULTILINE
            )
        )
        == CONDA_NAMES
    )


def test_the_readme_names_the_pinned_torch_and_nothing_else() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    named = dict(re.findall(r"\b([a-z_]+)==([0-9.]+[0-9])", readme))
    assert named == {"torch": pinned()["torch"]}


def test_one_version_everywhere() -> None:
    macros = ElementTree.parse(REPOSITORY / "macros.xml")
    (version,) = (token.text for token in macros.iter("token") if token.get("name") == "@TOOL_VERSION@")
    assert version == dnalm.__version__
    assert f"## {version}" in (REPOSITORY / "CHANGELOG.md").read_text()
