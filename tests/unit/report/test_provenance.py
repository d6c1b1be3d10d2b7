"""What an output says of the run that made it."""

import json
import platform
import re
from importlib import metadata

import pytest
from dnalm import __version__
from dnalm.report.provenance import PACKAGES, provenance, versions


def test_provenance_is_json_of_what_was_run() -> None:
    found = provenance("dnalm_embed", {"layer": -1}, {"name": "m"}, "cpu, 1 thread", {"sequences": 2}, ["pandas"])
    versions_found = found.pop("versions")
    assert json.loads(json.dumps(found)) == {
        "tool": "dnalm_embed",
        "options": {"layer": -1},
        "model": {"name": "m"},
        "device": "cpu, 1 thread",
        "counts": {"sequences": 2},
    }
    assert list(versions_found) == ["dnalm", "python", *PACKAGES, "pandas"]


def test_versions_are_those_that_are_installed() -> None:
    found = versions(["numpy"])
    assert found == {"dnalm": __version__, "python": platform.python_version(), "numpy": metadata.version("numpy")}
    assert all(re.match(r"[0-9]+\.[0-9]+", version) for version in found.values())


def test_equal_runs_have_equal_provenance() -> None:
    one, other = (provenance("t", {}, {}, "cpu", {}) for _ in range(2))
    assert json.dumps(one) == json.dumps(other)


def test_a_package_that_is_not_installed_is_no_part_of_a_run() -> None:
    with pytest.raises(metadata.PackageNotFoundError, match="no-such-package"):
        versions(["no-such-package"])
