"""Which device, how many threads, which numbers: settled once, said in the first line."""

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dnalm.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Padded tokens a batch, measured best on CPU (caches) and chosen to fill a GPU.
BATCH_TOKENS = {"cpu": 1_024, "cuda": 65_536}
MEASURED_WIDTH, MOST_TIMES = 512, 4  # hidden size of the model that was measured; batches at most so much larger
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: "quota period" in microseconds, or "max period"


@dataclass(frozen=True)
class Machine:
    """The device and its limits: what the model runs on, CPU threads, padded tokens a batch.

    Where the work is shared out to several processes, threads and tokens are those of each.
    """

    device: torch.device
    threads: int
    batch_tokens: int
    processes: int = 1

    def suiting(self, width: int, dtype: str) -> "Machine":
        """Return the same with batches for a model of another width or other numbers, so that caches hold as much."""
        if self.device.type != "cpu":
            return self
        narrower = MEASURED_WIDTH * torch.float32.itemsize / (width * DTYPES[dtype].itemsize)
        return replace(self, batch_tokens=int(self.batch_tokens * min(max(narrower, 1), MOST_TIMES)))

    @property
    def description(self) -> str:
        """One line: device, its memory, threads, processes."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        each = f" in each of {self.processes} processes" if self.processes > 1 else ""
        if self.device.type == "cuda":
            properties = torch.cuda.get_device_properties(self.device)
            gpus = min(self.processes, torch.cuda.device_count())
            name = f"{gpus} × {properties.name}" if gpus > 1 else properties.name
            return f"{name}, {properties.total_memory / 2**30:.0f} GiB, CPU {threads}{each}"
        return f"CPU ({platform.machine()}), {threads}{each}"

    def of_process(self, number: int) -> "Machine":
        """Return the machine of one of several processes: they take turns at the GPUs."""
        device = self.device
        if device.type == "cuda":
            device = torch.device("cuda", number % torch.cuda.device_count())
        return replace(self, device=device, processes=1)


def prepare_machine(
    device: str, threads: int | None, batch_tokens: int | None, seed: int = 0, processes: int | None = 1
) -> Machine:
    """Choose the device ('auto', 'cpu' or 'cuda'), bound the threads by the job's share, set both and the seed.

    The threads are shared out to the processes; None is one process a GPU, and one on the CPU.

    Raises:
        UserError: 'cuda' is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("No CUDA device is available to this job; choose device 'auto' or 'cpu', or a GPU destination.")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if processes is None:
        processes = torch.cuda.device_count() if kind == "cuda" else 1
    number = max(1, thread_count(threads) // processes)
    machine = Machine(torch.device(kind), number, batch_tokens or BATCH_TOKENS[kind], processes)
    settle(machine, seed)
    return machine


def settle(machine: Machine, seed: int) -> None:
    """Set the threads and the seed of this process, and its GPU where it is one of several with a GPU each."""
    torch.set_num_threads(machine.threads)
    torch.manual_seed(seed)
    rank = os.environ.get("LOCAL_RANK")  # of a training by several processes
    if machine.device.type == "cuda" and (rank or machine.device.index is not None):
        torch.cuda.set_device(int(rank) if rank else machine.device)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32, on a GPU too
    # The tokenizers library reads these before its first batch.
    os.environ["RAYON_NUM_THREADS"] = str(machine.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if machine.threads > 1 else "false"


def device_for(device: str, dtype: str) -> str:
    """Return the device for a kind of numbers: int8 runs on the CPU, and says so where 'auto' would take a GPU.

    Raises:
        UserError: int8 is asked for on 'cuda'.
    """
    if dtype != "int8":
        return device
    if device == "cuda":
        raise UserError("int8 is for the CPU; on a GPU choose bfloat16 or float32.")
    if device == "auto" and torch.cuda.is_available():
        print("int8 is for the CPU: the GPU is not used; bfloat16 would use it", flush=True)
    return "cpu"


def thread_count(asked: int | None) -> int:
    """Return the least of what is asked, Galaxy's slots, the processors this process may use, and the cgroup's quota.

    More threads than processors run several times slower than one, so no wish exceeds the share.
    """
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    slots = os.environ.get("GALAXY_SLOTS", "")
    limits += [int(slots)] if slots.isascii() and slots.isdigit() else []
    limits += [asked] if asked else []
    limits += [quota] if (quota := _cgroup_processors()) else []
    return max(1, min(limits))


def _cgroup_processors() -> int | None:
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None
