"""Run Slurm on this machine: Debian's programs, one node, two pretended GPUs, everything in a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configuration import ServerError
from server import free_port
from service import Service

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PACKAGES = ("slurm-wlm", "munge")
CPUS, MEMORY, GPUS = 4, 32_000, 2
NULL_DEVICE = 240  # a major number for local use: nothing answers, and nobody opens it


@dataclass(frozen=True)
class FinishedJob:
    """What Slurm says of a job that it ran."""

    name: str
    state: str
    partition: str
    cpus: int
    memory: str


class Slurm(AbstractContextManager["Slurm"]):
    """A Slurm of one node with a partition `cpu`, a partition `gpu`, and one `short` that ends jobs after a minute."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._services = ExitStack()

    @property
    def environment(self) -> dict[str, str]:
        """What its commands need to find it."""
        return {"SLURM_CONF": str(self._folder / "slurm.conf")}

    def __enter__(self) -> Slurm:
        self._make_folder()
        folder, environment = self._folder, self.environment
        socket_file = folder / "munge.socket"
        munged = ["munged", "--foreground", "--socket", socket_file, "--key-file", folder / "munge.key"]
        munged += [f"--{kind}-file={folder / 'munge'}.{kind}" for kind in ("pid", "seed", "log")]
        with ExitStack() as services:
            services.enter_context(Service("munged", folder, munged, socket_file.exists))
            control = ["slurmctld", "-D"]
            services.enter_context(
                Service("slurmctld", folder, control, lambda: "is UP" in self._said("scontrol", "ping"), environment)
            )
            node = ["slurmd", "-D", "-N", "localhost"]
            services.enter_context(
                Service("slurmd", folder, node, lambda: "idle" in self._said("sinfo", "-h"), environment)
            )
            self._services = services.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._said("scancel", "--state=PENDING")
        self._services.close()

    def _make_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        for name in ("state", "spool"):
            (self._folder / name).mkdir(parents=True)
        key = self._folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        for number in range(GPUS):
            # Only what has the number of a device becomes CUDA_VISIBLE_DEVICES.
            os.mknod(self._folder / f"gpu{number}", stat.S_IFCHR | 0o600, os.makedev(NULL_DEVICE, number))
        (self._folder / "gres.conf").write_text(f"NodeName=localhost Name=gpu File={self._folder}/gpu[0-{GPUS - 1}]\n")
        settings = "".join(f"{name}={value}\n" for name, value in self._settings().items())
        partitions = "".join(
            f"PartitionName={name} Nodes=localhost State=UP MaxTime={minutes} DefaultTime={minutes}\n"
            for name, minutes in {"cpu": 60, "gpu": 60, "short": 1}.items()
        )
        node = f"NodeName=localhost CPUs={CPUS} RealMemory={MEMORY} Gres=gpu:{GPUS} State=UNKNOWN\n"
        (self._folder / "slurm.conf").write_text(settings + node + partitions)

    def _settings(self) -> dict[str, Any]:
        folder, user = self._folder, "root"
        return {
            "ClusterName": "dnalm",
            "SlurmctldHost": f"{socket.gethostname().partition('.')[0]}(127.0.0.1)",
            "SlurmctldPort": free_port(0),
            "SlurmdPort": free_port(0),
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={folder / 'munge.socket'}",
            "SlurmUser": user,
            "SlurmdUser": user,
            "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": folder / "spool",
            "SlurmctldPidFile": folder / "slurmctld.pid",
            "SlurmdPidFile": folder / "slurmd.pid",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "JobCompType": "jobcomp/filetxt",
            "JobCompLoc": folder / "completed.txt",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU_Memory",
            "DefMemPerCPU": 1_000,
            "SlurmdParameters": "config_overrides",  # the machine may have fewer processors than are said here
            "GresTypes": "gpu",
            "MpiDefault": "none",
            "SchedulerParameters": "sched_interval=1,batch_sched_delay=1",
            "KillWait": 5,
            "MinJobAge": 300,
        }

    def _said(self, *command: str) -> str:
        environment = os.environ | self.environment
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60).stdout

    def finished(self) -> list[FinishedJob]:
        """Return the jobs that have ended, in their order."""
        path = self._folder / "completed.txt"
        jobs = []
        for line in path.read_text().splitlines() if path.exists() else []:
            facts = dict(part.partition("=")[::2] for part in line.split())
            resources = dict(part.partition("=")[::2] for part in facts.get("Tres", "").split(","))
            jobs.append(
                FinishedJob(
                    facts["Name"],
                    facts["JobState"],
                    facts["Partition"],
                    int(resources.get("cpu", 0)),
                    resources.get("mem", ""),
                )
            )
        return jobs


def install() -> None:
    """Install Slurm from Debian where it is not; raises ServerError where that is impossible, and says why."""
    if all(map(shutil.which, PROGRAMS)):
        problem = "" if os.geteuid() == 0 else "Slurm's programs are here, but only root can make its pretended GPUs"
    elif os.geteuid() != 0:
        problem = "Slurm is not installed and only root can install it"
    elif not shutil.which("apt-get"):
        problem = "Slurm is not installed and there is no apt-get to install it with"
    else:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *PACKAGES]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update"], capture_output=True, check=False)
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        problem = "" if done.returncode == 0 else f"Slurm could not be installed: {done.stderr.strip()[-500:]}"
    if problem:
        raise ServerError(f"{problem}; `make test-cluster` needs root on Debian or Ubuntu.")
