"""What the Tool Shed ships is complete by itself."""

import subprocess
from pathlib import Path

from conftest import ENVIRONMENTS, REPOSITORY

PLANEMO = ENVIRONMENTS / "planemo" / "bin" / "planemo"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_archive_has_every_script_once_and_no_tests(shipped: Path) -> None:
    found = files(shipped)
    scripts = {f"tools/scripts/{name}" for name in files(REPOSITORY / "scripts") if "__pycache__" not in name}
    assert {name for name in found if name.startswith("tools/scripts/")} == scripts
    assert not [name for name in found if name.startswith(("tests/", "scripts/", "."))]
    assert {"macros.xml", "README.md", "LICENSE", "tool_data_table_conf.xml.sample"} <= found
    assert {f"test-data/{name}" for name in files(REPOSITORY / "test-data")} <= found


def test_the_archive_of_the_data_manager_is_complete_by_itself(shipped: Path, shipped_data_manager: Path) -> None:
    found = files(shipped_data_manager)
    scripts = {f"scripts/{name}" for name in files(REPOSITORY / "scripts") if "__pycache__" not in name}
    samples = {f"tool-data/{table}.loc.sample" for table in ("huggingface", "fasta_indexes", "dnalm_endpoints")}
    samples.add("tool_data_table_conf.xml.sample")
    own = {"data_manager_dnalm.xml", "data_manager_conf.xml", "macros.xml", "LICENSE"}
    assert found == scripts | samples | own
    assert not any(path.is_symlink() for path in shipped_data_manager.rglob("*"))
    assert (shipped_data_manager / "macros.xml").read_text() == (shipped / "macros.xml").read_text()
    assert not [name for name in files(shipped) if "data_manager" in name and "/scripts/" not in name]


def test_the_unpacked_archives_lint_without_a_warning(shipped: Path, shipped_data_manager: Path) -> None:
    for folder, tools in ((shipped / "tools", 2), (shipped_data_manager, 1)):
        command: list[str | Path] = [PLANEMO, "lint", "--fail_level", "warn", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("Linting tool") >= tools


def test_test_data_are_small() -> None:
    for path in (REPOSITORY / "test-data").iterdir():
        assert path.stat().st_size < 500_000, path
