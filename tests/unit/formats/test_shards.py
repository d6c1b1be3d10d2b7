"""What merging shards says of them, and the one provenance of all."""

from pathlib import Path
from typing import Any

import pytest
from dnalm.errors import UserError
from dnalm.formats import shards
from dnalm.formats.shards import RepeatedIds, joined_provenance, named

NAMES = ["Shard 1 ('a')", "Shard 2 ('b')", "Shard 3 ('c')"]


def provenance(**changes: Any) -> dict[str, Any]:
    return {
        "tool": "dnalm_embed",
        "options": {"pooling": "mean", "layer": -1},
        "model": {"name": "tiny", "lowest_cosine_with_float32": 0.99},
        "versions": {"torch": "2.8", "dnalm": "1.0"},
        "device": "cpu",
        "counts": {"sequences": 3, "bases": 100},
    } | changes


def test_a_shard_is_named_by_number_and_file() -> None:
    assert named(3, Path("folder/a b.h5ad")) == "Shard 3 ('a b.h5ad')"


def test_ids_are_counted_from_the_second_time_on() -> None:
    repeated = RepeatedIds()
    repeated.add(["a", "b", "a"])
    repeated.add(["c", "b"])
    repeated.add([])
    repeated.add(["a"])
    assert repeated.count == 3


def test_no_more_ids_are_remembered_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MOST_REMEMBERED", 2)
    repeated = RepeatedIds()
    repeated.add(["a", "b", "c", "c", "a"])
    assert repeated.count == 1


def test_counts_are_added_and_the_rest_stays() -> None:
    joined, notes = joined_provenance([provenance(), provenance(counts={"sequences": 2, "lower_case": 7})], NAMES)
    assert joined == provenance(counts={"sequences": 5, "bases": 100, "lower_case": 7})
    assert notes == []


def test_one_part_is_joined_to_itself() -> None:
    assert joined_provenance([provenance()], NAMES) == (provenance(), [])
    assert joined_provenance([{"tool": "dnalm_embed"}], NAMES) == ({"tool": "dnalm_embed"}, [])


def test_machines_and_versions_may_differ_and_are_listed() -> None:
    parts = [
        provenance(),
        provenance(device="cuda", versions={"torch": "2.9", "cuda": "13"}),
        provenance(device="cpu, mps", versions=None),
    ]
    joined, notes = joined_provenance(parts, NAMES)
    assert joined["device"] == "cpu, cuda, mps"
    assert joined["versions"] == {"torch": "2.8, 2.9, none", "dnalm": "1.0, none", "cuda": "13, none"}
    assert notes[0] == "Shards differ in device: cpu, cuda, mps"
    assert notes[1].startswith("Shards differ in versions: {'torch': '2.8, 2.9, none'")


def test_the_lowest_cosine_of_all_shards_is_kept() -> None:
    models = [{"name": "tiny", "lowest_cosine_with_float32": cosine} for cosine in (0.98, 0.95, 0.97)]
    joined, _ = joined_provenance([provenance(model=model) for model in models], NAMES)
    assert joined["model"] == {"name": "tiny", "lowest_cosine_with_float32": 0.95}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tool": "dnalm_attention"}, "made with tool dnalm_attention, .* with dnalm_embed"),
        ({"options": {"pooling": "max", "layer": -1}}, "made with options pooling max, .* with mean"),
        ({"options": {"pooling": "mean"}}, "made with options layer None, .* with -1"),
        ({"options": {"pooling": "mean", "layer": -1, "head": 2}}, "made with options head 2, .* with None"),
        ({"model": {"name": "large", "lowest_cosine_with_float32": 0.99}}, "made with model name large, .* with tiny"),
        ({"model": None}, "made with model None, .* with {'name': 'tiny'}"),
    ],
)
def test_parts_of_another_run_are_refused(changes: dict[str, Any], sentence: str) -> None:
    start, _, end = sentence.partition(".*")
    pattern = rf"^Shard 3 \('c'\) was {start}Shard 1 \('a'\){end}; merge shards of one run\.$"
    with pytest.raises(UserError, match=pattern):
        joined_provenance([provenance(), provenance(), provenance(**changes)], NAMES)


def test_parts_are_left_as_they_were() -> None:
    parts = [provenance(), provenance(device="cuda")]
    joined_provenance(parts, NAMES)
    assert parts == [provenance(), provenance(device="cuda")]
