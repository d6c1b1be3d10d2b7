"""Pickled weights become safetensors; pickles of anything but tensors are refused and never run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from dnalm.errors import UserError
from dnalm.models.model_file import read_header
from dnalm.models.pickled_weights import convert
from safetensors.torch import load_file


def converted(content: Any, tmp_path: Path, **how: Any) -> dict[str, torch.Tensor]:
    torch.save(content, tmp_path / "weights.bin", **how)
    convert(tmp_path / "weights.bin", tmp_path / "weights.safetensors")
    return load_file(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_every_tensor_keeps_key_kind_shape_and_values(tmp_path: Path, zipped: bool) -> None:
    torch.manual_seed(0)
    tensors = {
        "b.weight": torch.randn(3, 5),
        "a.bias": torch.randn(5).half(),
        "ids": torch.arange(7)[None],
        "one": torch.tensor(1.5, dtype=torch.bfloat16),
        "none": torch.zeros(0, 3),
    }
    found = converted(tensors, tmp_path, _use_new_zipfile_serialization=zipped)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name], tensor)


def test_tied_and_transposed_tensors_are_written_out(tmp_path: Path) -> None:
    """A published Nucleotide Transformer has tensors that are views of others."""
    table = torch.arange(12.0).reshape(3, 4)
    found = converted({"in": table, "out": table, "turned": table.T, "part": table[1:, 2:]}, tmp_path)
    assert torch.equal(found["out"], table)
    assert torch.equal(found["turned"], table.T)
    assert torch.equal(found["part"], table[1:, 2:])


def test_parameters_are_tensors(tmp_path: Path) -> None:
    assert torch.equal(converted({"w": torch.nn.Parameter(torch.ones(2))}, tmp_path)["w"], torch.ones(2))


def test_the_result_is_canonical(tmp_path: Path) -> None:
    converted({"b": torch.ones(2), "a": torch.ones(3)}, tmp_path)
    first = (tmp_path / "weights.safetensors").read_bytes()
    converted({"a": torch.ones(3), "b": torch.ones(2)}, tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == first
    assert read_header(tmp_path / "weights.safetensors")[0]["format"] == "pt"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"weight": torch.zeros(1).expand(10**6, 10**6)}, "more than it holds"),
        ({"epoch": 3}, "'epoch', which is no plain tensor"),
        ({"state_dict": {"w": torch.ones(2)}}, "'state_dict', which is no plain tensor"),
        ({1: torch.ones(2)}, "'1', which is no plain tensor"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "'w', which is no plain tensor"),
        ({"w": torch.ones(2, 2).to_sparse()}, "'w', which is no plain tensor"),
        ({}, "no weights by name"),
        ([torch.ones(2)], "no weights by name"),
        (torch.nn.Linear(2, 2), "which is never run"),
    ],
)
def test_other_objects_than_state_dicts_are_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        converted(content, tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x02no pickle", b"<html>"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged|never run"):
        convert(tmp_path / "weights.bin", tmp_path / "weights.safetensors")
