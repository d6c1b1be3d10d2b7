"""Token ids that tutorials on DNABERT-2's tokenizer print."""

import json
from pathlib import Path

import pytest
from dnalm.models.tokenizers import tokenizer_from_files

DATA = Path(__file__).parent / "data" / "dnabert2"


@pytest.mark.parametrize(
    ("sequence", "longest", "ids"),
    [("ATT", None, [1, 2061, 2]), ("ATTGTGGGTCCCCGTAGATGATAGGGGCCCCCC", 5, [1, 2061, 281, 485, 2])],
)
def test_ids_are_those_of_the_tutorial(sequence: str, longest: int | None, ids: list[int]) -> None:
    names = ("tokenizer.json", "tokenizer_config.json")
    tokenizer = tokenizer_from_files({name: json.loads((DATA / name).read_text()) for name in names})
    (encoding,) = tokenizer.encode([sequence])
    assert (encoding.truncated(longest) if longest else encoding).ids.tolist() == ids
