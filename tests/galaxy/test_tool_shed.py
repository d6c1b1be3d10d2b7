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


def test_the_unpacked_archive_lints_without_a_warning(shipped: Path) -> None:
    done = subprocess.run(
        [PLANEMO, "lint", "--fail_level", "warn", shipped / "tools"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Linting tool" in done.stdout


def test_test_data_are_small() -> None:
    for path in (REPOSITORY / "test-data").iterdir():
        assert path.stat().st_size < 500_000, path
