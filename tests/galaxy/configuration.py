"""Write the configuration files of a Galaxy server for one repository of tools."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from processes import MARK

USER_ADDRESS = "biologist@example.org"
SECTION_NAME = "DNA language models"
PANEL = Path("tool-data") / "tool_conf_dnalm.sample.xml"
GENOMES = {
    "?": "unspecified (?)",
    "hg38": "Human Dec. 2013 (GRCh38/hg38)",
    "hg19": "Human Feb. 2009 (GRCh37/hg19)",
    "mm39": "Mouse June 2020 (GRCm39/mm39)",
    "mm10": "Mouse Dec. 2011 (GRCm38/mm10)",
    "dm6": "D. melanogaster Aug. 2014 (BDGP Release 6 + ISO1 MT/dm6)",
    "ce11": "C. elegans Feb. 2013 (WBcel235/ce11)",
    "sacCer3": "S. cerevisiae Apr. 2011 (SacCer_Apr2011/sacCer3)",
}
STARTUP = Path(__file__).resolve().parent / "startup"
UNREACHABLE_PROXY = "http://127.0.0.1:9"


class ServerError(RuntimeError):
    """Galaxy could not be started; the message says why."""


@dataclass(frozen=True)
class Layout:
    """Where a server keeps what it is made of."""

    state_directory: Path
    repository: Path
    environments: Path
    data_manager: Path | None = None
    tool_shed: str = ""

    @property
    def config(self) -> Path:
        return self.state_directory / "config"

    @property
    def data(self) -> Path:
        return self.state_directory / "data"

    @property
    def secrets(self) -> Path:
        return self.data / "secrets.json"

    @property
    def galaxy_yml(self) -> Path:
        return self.config / "galaxy.yml"

    @property
    def bundled_tools(self) -> Path:
        folders = sorted((self.environments / "galaxy").glob("lib/python*/site-packages/galaxy/tools/bundled"))
        if not folders:
            raise ServerError(f"There is no Galaxy in {self.environments / 'galaxy'}: run `make` first.")
        return folders[-1]


@dataclass(frozen=True)
class Execution:
    """Where jobs run beside this machine, in the words of job_conf.yml; uploads always stay here."""

    runners: Mapping[str, Any] = field(default_factory=dict)
    environments: Mapping[str, Any] = field(default_factory=dict)
    default: str = "local"


def write(
    layout: Layout,
    port: int,
    admin_key: str,
    offline_jobs: bool,
    job_environment: Mapping[str, str] | None = None,
    execution: Execution | None = None,
) -> None:
    """Write galaxy.yml and every file it names."""
    layout.config.mkdir(parents=True, exist_ok=True)
    layout.data.mkdir(parents=True, exist_ok=True)
    kept = kept_secrets(layout.secrets)
    write_tool_conf(layout)
    write_tool_shed_conf(layout)
    write_data_tables(layout)
    write_dependencies(layout)
    write_genomes(layout)
    write_json(
        layout.config / "job_conf.yml", job_conf(layout, offline_jobs, job_environment or {}, execution or Execution())
    )
    vault = {"type": "database", "path_prefix": "/galaxy", "encryption_keys": [kept["vault_key"]]}
    write_json(layout.config / "vault_conf.yml", vault)
    write_data_manager_conf(layout)
    write_json(layout.galaxy_yml, galaxy_yml(layout, port, admin_key, kept["id_secret"]))


def kept_secrets(path: Path) -> dict[str, str]:
    """Read the secrets that belong to a database, making them for a new one."""
    if not path.exists():
        made = {
            "id_secret": secrets.token_hex(16),
            "vault_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }
        write_json(path, made)
    return json.loads(path.read_text())


def write_json(path: Path, content: Any) -> None:
    """Write a file as JSON, which is also YAML, readable by its owner alone."""
    path.write_text(json.dumps(content, indent=2) + "\n")
    path.chmod(0o600)


def galaxy_yml(layout: Layout, port: int, admin_key: str, id_secret: str) -> dict[str, Any]:
    """Return Gravity's and Galaxy's settings; what Galaxy shows to users keeps a public server's defaults."""
    config = layout.config
    return {
        "gravity": {
            "process_manager": "multiprocessing",
            "gunicorn": {
                "bind": f"127.0.0.1:{port}",
                "workers": 1,
                "preload": False,
                "environment": {"PYTHONPATH": str(STARTUP)},
            },
            "celery": {
                "enable": True,
                "enable_beat": False,
                "concurrency": 2,
                "loglevel": "INFO",
                "extra_args": "--include quick_celery",
                "environment": {"PYTHONPATH": str(STARTUP)},
            },
            "gx_it_proxy": {"enable": False},
        },
        "galaxy": {
            "config_dir": str(config),
            "data_dir": str(layout.data),
            "galaxy_infrastructure_url": f"http://127.0.0.1:{port}",
            "single_user": USER_ADDRESS,
            "admin_users": USER_ADDRESS,
            "bootstrap_admin_api_key": admin_key,
            "id_secret": id_secret,
            "allow_path_paste": True,
            "tool_config_file": f"{config / 'tool_conf.xml'},{config / 'shed_tool_conf.xml'}",
            "tool_sheds_config_file": str(config / "tool_sheds_conf.xml"),
            "shed_tool_data_table_config": str(config / "shed_tool_data_table_conf.xml"),
            "shed_data_manager_config_file": str(config / "shed_data_manager_conf.xml"),
            "tool_path": str(layout.bundled_tools),
            "tool_data_path": str(layout.data / "tool-data"),
            "tool_data_table_config_path": str(config / "tool_data_table_conf.xml"),
            "galaxy_data_manager_data_path": str(layout.data / "data-manager"),
            "builds_file_path": str(config / "builds.txt"),
            "job_config_file": str(config / "job_conf.yml"),
            "dependency_resolvers_config_file": str(config / "dependency_resolvers_conf.xml"),
            "conda_auto_init": False,
            "conda_auto_install": False,
            "enable_mulled_containers": False,
            "data_manager_config_file": str(config / "data_manager_conf.xml"),
            "vault_config_file": str(config / "vault_conf.yml"),
            "enable_celery_tasks": True,
            "metadata_strategy": "directory_celery",
            "job_handler_monitor_sleep": 0.2,
            "job_runner_monitor_sleep": 0.2,
            "workflow_monitor_sleep": 0.2,
            "log_level": "INFO",
        },
    }


def job_conf(
    layout: Layout, offline_jobs: bool, job_environment: Mapping[str, str], execution: Execution
) -> dict[str, Any]:
    """Return a destination that runs two jobs of one core at a time on this machine, and others where there are any."""
    environment = {MARK: str(layout.state_directory), **job_environment}
    if offline_jobs:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment |= {name: UNREACHABLE_PROXY, name.upper(): UNREACHABLE_PROXY}
        environment |= {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}
    return {
        "runners": {"local": {"load": "galaxy.jobs.runners.local:LocalJobRunner", "workers": 2}, **execution.runners},
        "execution": {
            "default": execution.default,
            "environments": {
                **execution.environments,
                "local": {
                    "runner": "local",
                    "local_slots": 1,
                    "env": [{"name": name, "value": value} for name, value in environment.items()],
                },
            },
        },
        "tools": [{"id": name, "environment": "local"} for name in ("upload1", "__DATA_FETCH__")],
    }


def tool_files(repository: Path) -> list[Path]:
    """Return the tool XML files of a repository in the order of their names."""
    files = sorted((repository / "tools").glob("*.xml"))
    tools = [path for path in files if xml_root(path).tag == "tool"]
    if not tools:
        raise ServerError(f"There is no tool XML in {repository / 'tools'}.")
    return tools


def xml_root(path: Path) -> ElementTree.Element:
    """Read an XML file of the repository, which is as trusted as the code that reads it."""
    return ElementTree.parse(path).getroot()


def write_tool_conf(layout: Layout) -> None:
    """Write the tool panel: the upload tool and, unless they come from a Tool Shed, the repository's as its sample has them.

    What the sample does not name is put at the end.
    """
    toolbox = ElementTree.Element("toolbox")
    upload = ElementTree.SubElement(toolbox, "section", id="getext", name="Get Data")
    ElementTree.SubElement(upload, "tool", file=str(layout.bundled_tools / "data_source" / "upload.xml"))
    if not layout.tool_shed:
        (section,) = xml_root(layout.repository / PANEL).iter("section")
        for tool in section.iter("tool"):
            tool.set("file", str(layout.repository / tool.get("file", "")))
        named = {tool.get("file") for tool in section.iter("tool")}
        for path in tool_files(layout.repository):
            if str(path) not in named:
                ElementTree.SubElement(section, "tool", file=str(path))
        toolbox.append(section)
    write_xml(layout.config / "tool_conf.xml", toolbox)


def write_tool_shed_conf(layout: Layout) -> None:
    """Write which Tool Shed may be installed from, if any, and where Galaxy notes what was."""
    tool_sheds = ElementTree.Element("tool_sheds")
    if layout.tool_shed:
        ElementTree.SubElement(tool_sheds, "tool_shed", name="Tool Shed", url=layout.tool_shed)
    write_xml(layout.config / "tool_sheds_conf.xml", tool_sheds)
    for name, content in {
        "shed_tool_conf.xml": ElementTree.Element("toolbox", tool_path=str(layout.data / "shed_tools")),
        "shed_tool_data_table_conf.xml": ElementTree.Element("tables"),
        "shed_data_manager_conf.xml": ElementTree.Element("data_managers"),
    }.items():
        if not (layout.config / name).exists():
            write_xml(layout.config / name, content)


def write_data_tables(layout: Layout) -> None:
    """Write the list of data tables: the repository's test tables, each with a file of the server's own in front.

    Galaxy adds the rows of a data manager to a table's first file: the repository's are only read.
    """
    of_repository = layout.repository / "tool_data_table_conf.xml.test"
    tables = xml_root(of_repository) if of_repository.exists() else ElementTree.Element("tables")
    folder = layout.data / "tables"
    folder.mkdir(exist_ok=True)
    for table in tables.iter("table"):
        for file in table.iter("file"):
            file.set("path", file.get("path", "").replace("${__HERE__}", str(layout.repository)))
        own = folder / f"{table.get('name')}.loc"
        own.touch()
        table.insert(1, ElementTree.Element("file", path=str(own)))
    write_xml(layout.config / "tool_data_table_conf.xml", tables)


def write_data_manager_conf(layout: Layout) -> None:
    """Write which data manager there is, as its repository says it, or none."""
    managers = ElementTree.Element("data_managers")
    if layout.data_manager and not layout.tool_shed:
        managers = xml_root(layout.data_manager / "data_manager_conf.xml")
        managers.set("tool_path", str(layout.data_manager))
    write_xml(layout.config / "data_manager_conf.xml", managers)


def data_manager_files(data_manager: Path | None) -> list[Path]:
    """Return the tool XML files of the data manager's repository."""
    found = sorted(data_manager.glob("*.xml")) if data_manager else []
    return [path for path in found if xml_root(path).tag == "tool"]


def write_genomes(layout: Layout) -> None:
    """Write the genome builds that a dataset can be marked with."""
    lines = [f"{dbkey}\t{name}\n" for dbkey, name in GENOMES.items()]
    (layout.config / "builds.txt").write_text("".join(lines))


def requirements(repository: Path) -> dict[str, set[str]]:
    """Return the versions of every package the tools or their macros require, tokens replaced."""
    roots = [xml_root(path) for path in [*repository.glob("*.xml"), *repository.glob("tools/*.xml")]]
    tokens = {token.get("name", ""): token.text or "" for root in roots for token in root.iter("token")}
    found: dict[str, set[str]] = {}
    for requirement in (element for root in roots for element in root.iter("requirement")):
        if requirement.get("type") == "package":
            name = replace_tokens(requirement.text or "", tokens).strip()
            found.setdefault(name, set()).add(replace_tokens(requirement.get("version", ""), tokens))
    return found


def replace_tokens(text: str, tokens: dict[str, str]) -> str:
    """Replace `@NAME@` tokens, also those inside a token's value."""
    for _ in range(5):
        text = re.sub(r"@[A-Z0-9_]+@", lambda match: tokens.get(match[0], match[0]), text)
    return text


def write_dependencies(layout: Layout) -> None:
    """Make every package that a tool requires resolve to the tools' environment, whatever its version."""
    packages = layout.data / "packages"
    bin_folder = layout.environments / "tools" / "bin"
    script = f"unset PYTHONPATH PYTHONHOME VIRTUAL_ENV\nPATH={shlex.quote(str(bin_folder))}:$PATH\nexport PATH\n"
    for name, versions in requirements(layout.repository).items():
        for version in sorted({version for version in versions if version} | {"any"}):
            folder = packages / name / version
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "env.sh").write_text(script)
        default = packages / name / "default"
        if not default.is_symlink():
            default.symlink_to("any", target_is_directory=True)
    resolvers = ElementTree.Element("dependency_resolvers")
    ElementTree.SubElement(resolvers, "galaxy_packages", base_path=str(packages))
    ElementTree.SubElement(resolvers, "galaxy_packages", base_path=str(packages), versionless="true")
    write_xml(layout.config / "dependency_resolvers_conf.xml", resolvers)


def write_xml(path: Path, root: ElementTree.Element) -> None:
    """Write an XML file."""
    ElementTree.indent(root)
    path.write_bytes(ElementTree.tostring(root, encoding="utf-8") + b"\n")


def server_environment(layout: Layout) -> dict[str, str]:
    """Return the environment that Galaxy starts in: its own Python's, activated, without the caller's settings."""
    galaxy = layout.environments / "galaxy"
    foreign = re.compile(r"GALAXY_|GRAVITY_|CELERY_|PYTHON(?!UTF8)|VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not foreign.match(name)}
    environment |= {
        MARK: str(layout.state_directory),
        "VIRTUAL_ENV": str(galaxy),
        "PATH": f"{galaxy / 'bin'}:{environment.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "GRAVITY_SKIP_SYSTEMD": "1",
    }
    # Galaxy looks below a tool's folder, and in the whole of a repository that was installed.
    return environment if layout.tool_shed else environment | {"GALAXY_TEST_FILE_DIR": f"{layout.repository}/test-data"}
