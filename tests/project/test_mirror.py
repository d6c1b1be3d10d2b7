"""Where the test of a module is: tests/unit has the folders of the package, and a file for each of its modules."""

from collections.abc import Iterator
from pathlib import Path

from conftest import REPOSITORY

PACKAGE, UNIT = REPOSITORY / "scripts" / "dnalm", REPOSITORY / "tests" / "unit"


def modules(package: Path) -> set[Path]:
    """Return a package's modules below it, without their suffix."""
    found = (path.relative_to(package).with_suffix("") for path in package.rglob("*.py"))
    return {path for path in found if path.name != "__init__"}


def subjects(tests: Path) -> set[Path]:
    """Return what the files of tests are named after: their paths without `test_` and suffix."""
    found = (path.relative_to(tests).with_suffix("") for path in tests.rglob("test_*.py"))
    return {path.with_name(path.name.removeprefix("test_")) for path in found}


def astray(subjects: set[Path], modules: set[Path]) -> Iterator[Path]:
    """Yield what is named neither after a module nor after a module and a subject of it: `module_subject`."""
    for subject in subjects - modules:
        if not any(subject.parent == one.parent and subject.name.startswith(f"{one.name}_") for one in modules):
            yield subject


def test_every_module_has_a_test_file_of_its_name() -> None:
    assert not {str(path) for path in modules(PACKAGE) - subjects(UNIT)}


def test_every_test_file_is_named_after_a_module() -> None:
    assert not {str(path) for path in astray(subjects(UNIT), modules(PACKAGE))}


def test_the_rule_can_be_broken(tmp_path: Path) -> None:
    """A package of one module, whose test file is first missing, then in another folder, then right."""
    (tmp_path / "package" / "room").mkdir(parents=True)
    (tmp_path / "package" / "room" / "chair.py").touch()
    (tmp_path / "package" / "room" / "__init__.py").touch()
    assert modules(tmp_path / "package") == {Path("room/chair")}
    for name, expected in {
        "test_chair.py": [Path("chair")],
        "room/test_table.py": [Path("room/table")],
        "room/test_chair_legs.py": [],
        "room/test_chair.py": [],
    }.items():
        path = tmp_path / name.replace("/", "-") / name
        path.parent.mkdir(parents=True)
        path.touch()
        found = subjects(tmp_path / name.replace("/", "-"))
        assert list(astray(found, modules(tmp_path / "package"))) == expected
        assert (modules(tmp_path / "package") <= found) == (name == "room/test_chair.py")
