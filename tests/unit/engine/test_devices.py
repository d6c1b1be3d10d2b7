"""Threads, devices and batch sizes that suit the machine."""

import os
from pathlib import Path

import pytest
import torch
from dnalm.engine import devices
from dnalm.engine.devices import Machine, device_for, prepare_machine, thread_count
from dnalm.errors import UserError


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend to own 8 processors; the file returned is the cgroup's quota."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("GALAXY_SLOTS", raising=False)
    monkeypatch.setattr(devices, "CGROUP_QUOTA", tmp_path / "cpu.max")
    return tmp_path / "cpu.max"


@pytest.mark.parametrize(
    ("asked", "slots", "quota", "expected"),
    [
        (None, None, None, 8),
        (3, None, None, 3),
        (99, None, None, 8),
        (None, "2", None, 2),
        (5, "2", None, 2),
        (None, "", None, 8),
        (None, "²", None, 8),
        (None, None, "400000 100000", 4),
        (None, None, "50000 100000", 1),
        (None, None, "max 100000", 8),
        (6, "5", "300000 100000", 3),
    ],
)
def test_threads_are_the_least_of_all_limits(
    share: Path, monkeypatch: pytest.MonkeyPatch, asked: int | None, slots: str | None, quota: str | None, expected: int
) -> None:
    if slots is not None:
        monkeypatch.setenv("GALAXY_SLOTS", slots)
    if quota is not None:
        share.write_text(quota)
    assert thread_count(asked) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused_when_asked_for() -> None:
    with pytest.raises(UserError, match="No CUDA device"):
        prepare_machine("cuda", None, None)


def test_the_machine_is_described_in_one_line() -> None:
    machine = prepare_machine("cpu", 1, None)
    assert machine.description.endswith("1 thread")
    assert machine.batch_tokens == 1_024
    assert torch.get_num_threads() == 1


def test_int8_is_for_the_cpu_and_says_when_a_gpu_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [device_for(device, "int8") for device in ("auto", "cpu")] == ["cpu", "cpu"]
    assert [device_for(device, "bfloat16") for device in ("auto", "cpu", "cuda")] == ["auto", "cpu", "cuda"]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_for("auto", "int8") == "cpu"
    assert "the GPU is not used" in capsys.readouterr().out
    with pytest.raises(UserError, match="int8 is for the CPU; on a GPU choose bfloat16 or float32"):
        device_for("cuda", "int8")


@pytest.mark.parametrize(
    ("device", "width", "dtype", "tokens"),
    [
        ("cpu", 512, "float32", 1_024),
        ("cpu", 2_560, "float32", 1_024),
        ("cpu", 256, "float32", 2_048),
        ("cpu", 256, "bfloat16", 4_096),
        ("cpu", 512, "bfloat16", 2_048),
        ("cpu", 16, "float32", 4_096),
        ("cuda", 256, "bfloat16", 1_024),
    ],
)
def test_batches_on_a_cpu_hold_as_much_whatever_the_model(device: str, width: int, dtype: str, tokens: int) -> None:
    machine = Machine(torch.device(device), 1, 1_024)
    assert machine.suiting(width, dtype).batch_tokens == tokens
