"""Token ids of the Nucleotide Transformer's tokenizers, against the JAX reference (data/kmer_tokenizer/README.md)."""

import json
from pathlib import Path

import pytest
from dnalm.models.tokenizers import tokenizer_from_files

DATA = Path(__file__).parent / "data" / "kmer_tokenizer"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_ids_equal_the_reference(version: str) -> None:
    folder = DATA / f"nt_{version}"
    files = {"vocab.txt": (folder / "vocab.txt").read_text()}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        files[name] = json.loads((folder / name).read_text())
    sequences = [item["sequence"] for item in json.loads((DATA / "inputs.json").read_text())]
    expected = json.loads((DATA / "expected.json").read_text())[version]
    found = [encoding.ids.tolist() for encoding in tokenizer_from_files(files).encode(sequences)]
    assert found == expected
