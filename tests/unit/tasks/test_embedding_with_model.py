"""Embedding with a language model, as the task of dnalm_embed asks for it."""

from pathlib import Path

import numpy as np
import pytest
from conftest import TEST_DATA
from dnalm.engine.representations import COMPARED, ModelChoices, ModelRepresentation
from dnalm.errors import UserError
from dnalm.tasks.embedding_options import EmbeddingOptions, RepresentationInfo
from dnalm.tasks.embedding_with_model import model_embedder

MODEL = TEST_DATA / "random_model.safetensors"
NAMES, BASES = ["a", "b", "c"], ["ACGTACGTAC", "GATTACA", "TTTTTTTTTTTT"]


def options(**changes: object) -> EmbeddingOptions:
    return EmbeddingOptions(**{"output": Path("e"), "model": MODEL, "threads": 1, **changes})  # type: ignore[arg-type]


def test_the_device_is_said_before_the_model_is_loaded() -> None:
    embedder = model_embedder(options(device="cpu", model=Path("absent")))
    assert embedder.description.startswith("CPU (")
    assert embedder.description.endswith("1 thread; float32")
    assert (embedder.device, embedder.processes, embedder.batch_tokens) == ("cpu", 1, 1_024)


def test_results_come_in_order_with_what_the_model_is() -> None:
    with model_embedder(options()).open((NAMES, BASES)) as crew:
        info: RepresentationInfo = crew.told
        ((kept, (found, dimensions)),) = crew.results([("kept", (NAMES, BASES))])
    assert kept == "kept"
    assert dimensions is None
    assert info.cosine is None
    assert info.facts["layers"] == [2]
    alone = [next(crew.results([(None, ([name], [bases]))]))[1][0][0] for name, bases in zip(NAMES, BASES, strict=True)]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one.vectors, other.vectors, rtol=0, atol=1e-5 * np.abs(other.vectors).max())


def test_layers_and_pooling_reach_the_model() -> None:
    with model_embedder(options(layer=[0, -1], combine_layers="concatenate", pooling="max")).open(
        (NAMES, BASES)
    ) as crew:
        ((_, (found, _)),) = crew.results([(None, (NAMES, BASES))])
    with model_embedder(options(layer=[0], pooling="max")).open((NAMES, BASES)) as crew:
        ((_, (first, _)),) = crew.results([(None, (NAMES, BASES))])
    assert len(found[0].vectors) == 2 * len(first[0].vectors)
    np.testing.assert_allclose(found[0].vectors[: len(first[0].vectors)], first[0].vectors, rtol=1e-6)


def test_a_lower_precision_is_measured_on_the_first_sequences_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[str, list[str]]] = []
    change = ModelRepresentation.change_precision

    def watched(self: ModelRepresentation, dtype: str, names: list[str], sequences: list[str]) -> float:
        measured.append((dtype, list(names)))
        return change(self, dtype, names, sequences)

    monkeypatch.setattr(ModelRepresentation, "change_precision", watched)
    many = [f"s{number}" for number in range(COMPARED + 3)]
    with model_embedder(options(dtype="bfloat16")).open((many, ["ACGTACGTAC"] * len(many))) as crew:
        assert 0.9 < crew.told.cosine < 1
    assert measured == [("bfloat16", many[:COMPARED])]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dtype": "int8", "device": "cuda"}, "int8 is for the CPU; on a GPU choose bfloat16 or float32"),
        ({"model": TEST_DATA / "two_genomes.fasta"}, "two_genomes.fasta"),
        ({"layer": [9]}, r"choose 0 \(embeddings\) to 2 \(last\)"),
    ],
)
def test_what_the_model_cannot_do_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence), model_embedder(options(**changes)).open((NAMES, BASES)):
        pass


def test_its_choices_are_those_of_the_representation() -> None:
    """Every field of ModelChoices has an option, by its name or another."""
    renamed = {"layers": "layer", "by_bases": "pooling_weights", "keep_special": "special_tokens"}
    fields = {renamed.get(name, name) for name in ModelChoices.__dataclass_fields__}
    assert fields <= EmbeddingOptions.__dataclass_fields__.keys()
