"""Encoders in int8: near float32, and the same to the last bit whatever lies beside a sequence."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.engine.devices import prepare_machine
from dnalm.engine.representations import ModelChoices, ModelRepresentation
from dnalm.errors import UserError
from dnalm.methods.strands import reverse_complement
from dnalm.models import quantized
from dnalm.models.language_model import LanguageModel
from dnalm.models.quantized import QuantizedEncoder, sums_saturate
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model

PARITY = REPOSITORY / "tests" / "parity" / "data"
OURS = ["nt_v2", "dnabert2"]
ENCODERS = [
    *OURS,
    *("bert", "deberta-v2", "distilbert", "electra", "esm-absolute", "esm-rotary", "modernbert", "roberta", "roformer"),
]
# Of means over tokens of tiny random models; models of real width are nearer (tests/benchmarks/embedding.py).
LOWEST_COSINE = {"deberta-v2": 0.997}
USUAL_COSINE = 0.998
TOKENS_COSINE = 0.99  # of single tokens
LENGTHS = [1, 3, 20, 61, 150, 600, 1_790]
SEQUENCES = ["".join(np.random.default_rng(length).choice(list("ACGT"), length)) for length in LENGTHS]
NAMES = [f"s{length}" for length in LENGTHS]
MACHINE = prepare_machine("cpu", 1, None)

Load = Callable[[str], LanguageModel]


@pytest.fixture(scope="module")
def load(model_folder: Callable[[str], Path]) -> Load:
    return lambda name: load_language_model(open_model(PARITY / name if name in OURS else model_folder(name)))


@pytest.fixture(scope="module")
def model(load: Load) -> LanguageModel:
    return load("esm-rotary")


@pytest.fixture(scope="module")
def session_of(model: LanguageModel) -> Callable[[tuple[int, ...]], QuantizedEncoder]:
    """Return a function that prepares a choice of layers once."""
    made: dict[tuple[int, ...], QuantizedEncoder] = {}

    def make(layers: tuple[int, ...]) -> QuantizedEncoder:
        if layers not in made:
            made[layers] = QuantizedEncoder(model, layers)
        return made[layers]

    return make


@pytest.fixture
def prepared(
    session_of: Callable[[tuple[int, ...]], QuantizedEncoder], model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[ModelRepresentation, float]]:
    """Return a function that gives a representation in int8 and its cosine with float32."""
    monkeypatch.setattr("dnalm.engine.representations.QuantizedEncoder", lambda model, layers: session_of(layers))

    def make(machine: Any = MACHINE, **choices: Any) -> tuple[ModelRepresentation, float]:
        representation = ModelRepresentation(model, ModelChoices(**choices), machine)
        return representation, representation.change_precision("int8", NAMES, SEQUENCES)

    return make


def vectors(representation: ModelRepresentation, sequences: list[str]) -> list[np.ndarray]:
    return [
        found.vectors for found in representation.embed([str(number) for number in range(len(sequences))], sequences)
    ]


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = np.atleast_2d(one), np.atleast_2d(other)
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_is_near_float32_at_every_layer(load: Load, name: str) -> None:
    model = load(name)
    layers = range(len(model.layers) + 1)
    encoder = QuantizedEncoder(model, layers)
    generator = np.random.default_rng(5)
    for length in (2, 3, 7, 40, min(150, model.context_length or 150)):
        ids = torch.from_numpy(generator.integers(4, model.vocabulary_size, (1, length)))
        with torch.inference_mode():
            exact = model.hidden_states(ids, None, layers)
        for layer, states in enumerate(encoder.hidden_states(ids)):
            assert states.shape == exact[layer].shape
            assert states.dtype == torch.float32
            cosine = cosines(exact[layer][0].mean(0).numpy(), states[0].mean(0).numpy()).min()
            lowest = LOWEST_COSINE.get(name, USUAL_COSINE) if layer else 0.999999
            assert cosine > lowest, (layer, length)


@pytest.mark.slow
def test_a_single_token_is_exact(model: LanguageModel, session_of: Callable[..., QuantizedEncoder]) -> None:
    ids = torch.tensor([[7]])
    (found,) = session_of((3,)).hidden_states(ids)
    torch.testing.assert_close(found, model.hidden_states(ids, None, [3])[0], rtol=0, atol=0)


@pytest.mark.slow
def test_layers_above_the_highest_are_not_computed(model: LanguageModel, tmp_path: Path) -> None:
    for layers, expected in {(1,): 6, (2, 0): 12}.items():
        folder = tmp_path / str(expected)
        folder.mkdir()
        graph = onnx.load(quantized._quantized_file(model, layers, folder)).graph
        assert sum(node.op_type == "MatMulInteger" for node in graph.node) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"layers": (1,)},
        {"layers": (3, 0, 2, 3), "combine_layers": "concatenate"},
        {"layers": (1, 3)},
        {"both_strands": True},
        {"pooling": "max"},
        {"pooling": "cls"},
        {"pooling": "none", "window_overlap": 0.5},
        {"long_sequences": "truncate", "by_bases": True},
    ],
    ids=str,
)
def test_every_choice_is_near_float32(
    model: LanguageModel, prepared: Callable[..., tuple[ModelRepresentation, float]], choices: dict[str, Any]
) -> None:
    representation, measured = prepared(**choices)
    exact = vectors(ModelRepresentation(model, ModelChoices(**choices), MACHINE), SEQUENCES)
    found = vectors(representation, SEQUENCES)
    assert [one.shape for one in found] == [one.shape for one in exact]
    lowest = min(cosines(one, other).min() for one, other in zip(exact, found, strict=True))
    assert measured == pytest.approx(lowest, abs=2e-6)
    assert measured == representation.facts()["lowest_cosine_with_float32"]
    assert (TOKENS_COSINE if choices.get("pooling") in ("cls", "none") else USUAL_COSINE) < measured < 1


@pytest.mark.slow
def test_a_vector_does_not_depend_on_order_company_threads_or_batch_size(
    prepared: Callable[..., tuple[ModelRepresentation, float]],
) -> None:
    representation, _ = prepared()
    together = vectors(representation, SEQUENCES)
    np.testing.assert_array_equal(vectors(representation, SEQUENCES[::-1])[::-1], together)
    for bases, vector in zip(SEQUENCES, together, strict=True):
        np.testing.assert_array_equal(vectors(representation, [bases])[0], vector)
    for machine in (replace(MACHINE, threads=2), replace(MACHINE, threads=3, batch_tokens=9)):
        np.testing.assert_array_equal(vectors(prepared(machine)[0], SEQUENCES), together)


@pytest.mark.slow
def test_both_strands_are_averaged(prepared: Callable[..., tuple[ModelRepresentation, float]]) -> None:
    turned = [reverse_complement(bases) for bases in SEQUENCES]
    one, other = (np.stack(vectors(prepared()[0], given)) for given in (SEQUENCES, turned))
    both = np.stack(vectors(prepared(both_strands=True)[0], SEQUENCES))
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-6)


@pytest.mark.slow
def test_nothing_is_left_in_the_temporary_folder_and_nothing_said(random_model: Path, tmp_path: Path) -> None:
    """In a process of its own: what a library makes when it is imported, to report home for example, counts too."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "torch")}
    command: list[str | Path] = [
        "dnalm_embed.py",
        "--sequences",
        TEST_DATA / "two_genomes.fasta",
        "--model",
        random_model,
    ]
    command += ["--dtype", "int8", "--threads", "1", "--output", tmp_path / "out.h5ad"]
    done = subprocess.run([sys.executable, *command], cwd=REPOSITORY / "scripts", env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("x86_64", "fpu avx2 avx512f avx512_vnni amx_int8", False),
        ("x86_64", "fpu avx2 avx_vnni", False),
        ("AMD64", "fpu avx2 avx512f avx512bw", True),
        ("x86_64", "fpu avx2", True),
        ("x86_64", "", True),
        ("aarch64", "", False),
        ("arm64", "asimddp", False),
    ],
)
def test_sums_saturate_on_x86_without_vnni(architecture: str, flags: str, expected: bool) -> None:
    assert sums_saturate(architecture, f"processor : 0\nflags\t\t: {flags}\n") == expected


@pytest.mark.slow
def test_preparing_again_or_without_vnni_gives_the_same_numbers(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor without VNNI neither takes it."""
    model, ids = load("nt_v2"), torch.from_numpy(np.random.default_rng(5).integers(4, 60, (1, 40)))
    found = [QuantizedEncoder(model, [3]).hidden_states(ids)[0] for _ in range(2)]
    (tmp_path / "cpuinfo").write_text("flags : avx2\n")
    monkeypatch.setattr(quantized, "PROCESSOR", tmp_path / "cpuinfo")
    found += QuantizedEncoder(model, [3]).hidden_states(ids)
    for again in found[1:]:
        torch.testing.assert_close(again, found[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["llama", "mixtral", "gpt2"])
def test_models_that_are_no_encoders_are_refused(
    run_tool: Run, model_folder: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    code, _, error = run_tool(
        "embed",
        *("--sequences", TEST_DATA / "two_genomes.fasta", "--model", model_folder(name)),
        *("--dtype", "int8", "--output", tmp_path / "out.h5ad"),
    )
    assert code == 1
    assert error.endswith("has no int8, which is for encoders without experts; choose bfloat16 or float32.\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("representation", ["logits", "lm-head-norm", "kmer", "onehot"])
def test_int8_is_for_hidden_states(run_tool: Run, random_model: Path, tmp_path: Path, representation: str) -> None:
    given = [] if representation in ("kmer", "onehot") else ["--model", random_model]
    code, _, error = run_tool(
        "embed",
        *("--sequences", TEST_DATA / "two_genomes.fasta", *given, "--representation", representation),
        *("--dtype", "int8", "--output", tmp_path / "out.h5ad"),
    )
    assert (code, error) == (
        1,
        f"dnalm_embed: int8 is for hidden states; for the representation '{representation}' choose bfloat16 or float32.\n",
    )


def test_a_model_that_cannot_be_exported_is_a_user_error(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **named: Any) -> None:
        raise RuntimeError("unsupported operator\nand a long story")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(
        UserError, match=r"cannot be brought to int8 \(unsupported operator.*\); choose bfloat16 or flo"
    ):
        QuantizedEncoder(model, [1])


@pytest.mark.slow
def test_the_entry_script_says_how_near_and_with_what(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    code, said, error = run_tool(
        "embed",
        *("--sequences", TEST_DATA / "two_genomes.fasta", "--model", random_model, "--dtype", "int8"),
        *("--output", output, "--output-format", "npz"),
    )
    assert (code, error) == (0, "")
    assert said.startswith("Device: CPU")
    assert "; int8\n" in said
    assert "Precision: cosine with float32 at least 0.99" in said
    assert "onnxruntime" in said.splitlines()[-1]


def test_its_libraries_are_imported_only_when_asked_for() -> None:
    check = (
        "import sys, dnalm.tasks.embedding; sys.exit(bool({'onnx', 'onnxruntime', 'onnxscript'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=REPOSITORY / "scripts")
