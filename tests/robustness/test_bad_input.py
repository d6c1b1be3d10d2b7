"""What users bring by mistake, through the whole tool: one sentence, exit 1, nothing left behind."""

import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TEST_DATA, Run
from dnalm.formats.fasta import FastaReader
from dnalm.methods.strands import reverse_complement
from dnalm.models.model_file import write_model_file
from dnalm.models.sources import open_model
from dnalm.tasks import embedding

FASTA = b">first\nACGT\n>second\nACGT\n"
BAD_SEQUENCES: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "is empty"),
    "text before the first header": (b"my sequences\n" + FASTA, "text before the first '>' (line 1)"),
    "record without sequence": (b">first\n>second\nACGT\n", "Record 1 ('first') of 'input.dat' has no sequence"),
    "protein": ((TEST_DATA / "protein.fasta").read_bytes(), "looks like protein"),
    "FASTQ": (b"@r\nACGT\n+\nIIII\n", "looks like FASTQ"),
    "binary": (bytes(range(1, 255)) * 10, "is binary"),
    "UTF-16": (FASTA.decode().encode("utf-16"), "is UTF-16"),
    "NUL bytes": (FASTA.replace(b"CG", b"C\0", 1), "has a NUL byte at position 3"),
    "gaps": (
        FASTA + b">third\nAC-GT\n",
        "Record 3 ('third') of 'input.dat' has the gap or stop sign '-' at position 3",
    ),
    "digits": (FASTA + b">third\n1 ACGT\n", "Record 3 ('third') of 'input.dat' has the digit '1' at position 1"),
    "truncated gzip": (gzip.compress(FASTA * 1_000)[:-9], "damaged or cut short"),
}
LETTERS = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", dtype=np.uint8), (120, 80))
# The error comes after the records of two buffers have been embedded and written.
LATE = b"".join(b">r\n%s\n" % bases.tobytes() for bases in LETTERS)


def no_traces(folder: Path) -> bool:
    return not list(folder.iterdir())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.mark.parametrize("output_format", ["h5ad", "npz"])
@pytest.mark.parametrize("case", BAD_SEQUENCES)
def test_bad_sequences_are_refused(
    run_tool: Run, random_model: Path, tmp_path: Path, results: Path, case: str, output_format: str
) -> None:
    content, sentence = BAD_SEQUENCES[case]
    (tmp_path / "input.dat").write_bytes(content)
    code, _, error = run_tool(
        "embed",
        *("--sequences", tmp_path / "input.dat", "--model", random_model, "--output-format", output_format),
        *("--output", results / "x", "--summary", results / "x.tsv"),
    )
    assert code == 1
    assert error.startswith("dnalm_embed: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert no_traces(results)


@pytest.mark.parametrize("output_format", ["h5ad", "npz"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (LATE + b">bad\nACGT*\n", "Record 121 ('bad')"),
        (gzip.compress(LATE)[:-9], "damaged or cut short after record"),
    ],
)
def test_an_error_after_much_work_leaves_nothing_and_keeps_what_was_there(
    run_tool: Run,
    random_model: Path,
    tmp_path: Path,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    sentence: str,
    output_format: str,
) -> None:
    monkeypatch.setattr(embedding, "BUFFER_RECORDS", 50)
    (tmp_path / "input.dat").write_bytes(content)
    (results / "x").write_text("an earlier result")
    code, _, error = run_tool(
        "embed",
        *("--sequences", tmp_path / "input.dat", "--model", random_model, "--output-format", output_format),
        *("--output", results / "x", "--summary", results / "x.tsv"),
    )
    assert code == 1
    assert sentence in error
    assert [path.name for path in results.iterdir()] == ["x"]
    assert (results / "x").read_text() == "an earlier result"


def test_what_can_be_mended_is_accepted(run_tool: Run, random_model: Path, tmp_path: Path, results: Path) -> None:
    """Lower case, IUPAC, U, CRLF, no last newline, duplicate ids: the vectors are those of the mended sequences."""
    (tmp_path / "rough.dat").write_bytes(b">a\r\nacguRYKM\r\nACGT\r\n>a\r\nNNNN")
    (tmp_path / "clean.dat").write_bytes(b">a\nACGTNNNNACGT\n>a\nNNNN\n")
    found = []
    for name in ("rough", "clean"):
        code, _, _ = run_tool(
            "embed",
            *("--sequences", tmp_path / f"{name}.dat", "--model", random_model),
            *("--output", results / name, "--output-format", "npz"),
        )
        assert code == 0
        found.append(np.load(results / name, allow_pickle=False))
    assert found[0]["ids"].tolist() == ["a", "a"]
    np.testing.assert_array_equal(found[0]["embeddings"], found[1]["embeddings"])


def model_with(change: Callable[[dict[str, object], dict[str, torch.Tensor]], object]) -> Callable[[Path, Path], None]:
    def write(random_model: Path, target: Path) -> None:
        stored = open_model(random_model)
        config, tensors = dict(stored.config), {name: tensor.clone() for name, tensor in stored.read_tensors().items()}
        change(config, tensors)
        write_model_file(target, tensors, config, stored.tokenizer, name="changed")

    return write


def raw(content: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def write(random_model: Path, target: Path) -> None:
        target.write_bytes(content(random_model.read_bytes()))

    return write


def without_metadata(content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__")
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + content[8 + length :]


QUERY = "esm.encoder.layer.0.attention.self.query.weight"
BAD_MODELS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "malformed": (raw(lambda content: b"A" * 1_000), "is damaged or no model file"),
    "truncated": (raw(lambda content: content[:-1_000]), "is cut short"),
    "oversized header": (raw(lambda content: struct.pack("<Q", 10**12) + content[8:]), "is damaged or no model file"),
    "wrong shape": (
        model_with(lambda config, tensors: tensors.update({QUERY: torch.ones(2, 2)})),
        "has the shape (2, 2), the config asks for (64, 64)",
    ),
    "NaN weight": (
        model_with(lambda config, tensors: tensors[QUERY].fill_(np.nan)),
        f"NaN or infinite weights in '{QUERY}'",
    ),
    "missing tensor": (model_with(lambda config, tensors: tensors.pop(QUERY)), f"tensor '{QUERY}' is missing"),
    "unknown architecture": (
        model_with(lambda config, tensors: config.update(model_type="alien")),
        "The architecture 'alien' of the model 'changed' is unknown here",
    ),
    "weights alone": (
        raw(without_metadata),
        "holds weights but no config",
    ),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_models_are_refused(run_tool: Run, random_model: Path, tmp_path: Path, results: Path, case: str) -> None:
    make, sentence = BAD_MODELS[case]
    make(random_model, tmp_path / "model.dat")
    code, _, error = run_tool(
        "embed",
        *("--sequences", TEST_DATA / "two_genomes.fasta", "--model", tmp_path / "model.dat"),
        *("--output", results / "x", "--summary", results / "x.tsv"),
    )
    assert code == 1
    assert sentence in error
    assert error.count("\n") == 1
    assert no_traces(results)


def test_a_layer_that_is_not_there_is_refused(run_tool: Run, random_model: Path, results: Path) -> None:
    code, _, error = run_tool(
        "embed",
        *(
            "--sequences",
            TEST_DATA / "two_genomes.fasta",
            "--model",
            random_model,
            "--layer",
            "3",
            "--output",
            results / "x",
        ),
    )
    assert code == 1
    assert "has no layer 3; choose 0 (embeddings) to 2 (last)" in error
    assert no_traces(results)


MITOCHONDRION = TEST_DATA / "human_mitochondrion.fasta"
BAD_REGIONS: dict[str, tuple[str, str]] = {
    "outside its contig": ("human_mitochondrion\t16000\t16570\n", "ends at 16,570, the contig"),
    "on an unknown contig": ("chrM\t0\t10\n", "is on the contig 'chrM', which the genome"),
    "of length 0": ("human_mitochondrion\t10\t10\n", "is a region of length 0"),
}


@pytest.mark.parametrize("case", BAD_REGIONS)
def test_bad_regions_are_refused(run_tool: Run, random_model: Path, tmp_path: Path, results: Path, case: str) -> None:
    line, sentence = BAD_REGIONS[case]
    regions = tmp_path / "regions.dat"
    regions.write_text("human_mitochondrion\t0\t100\n" + line)
    code, _, error = run_tool(
        "embed", *("--genome", MITOCHONDRION, "--regions", regions, "--model", random_model, "--output", results / "x")
    )
    assert code == 1
    assert error.startswith("dnalm_embed: Line 2 of 'regions.dat'")
    assert sentence in error
    assert error.count("\n") == 1
    assert no_traces(results)


def test_a_region_of_the_minus_strand_is_its_reverse_complement(
    run_tool: Run, random_model: Path, tmp_path: Path, results: Path
) -> None:
    with FastaReader(MITOCHONDRION) as reader:
        (record,) = reader
    (tmp_path / "r.bed").write_text("human_mitochondrion\t500\t800\tx\t0\t-\n")
    (tmp_path / "r.fa").write_text(f">x\n{reverse_complement(record.bases[500:800])}\n")
    for name, source in {
        "regions": ("--genome", MITOCHONDRION, "--regions", tmp_path / "r.bed"),
        "sequences": ("--sequences", tmp_path / "r.fa"),
    }.items():
        run_tool("embed", *source, "--model", random_model, "--output", results / name, "--output-format", "npz")
    found = [np.load(results / name, allow_pickle=False)["embeddings"] for name in ("regions", "sequences")]
    np.testing.assert_array_equal(*found)


CONTRADICTIONS: dict[str, tuple[tuple[object, ...], str]] = {
    "no input": (("--representation", "kmer"), "Give either sequences, or a genome together with regions."),
    "two inputs": (
        (
            "--representation",
            "kmer",
            "--sequences",
            MITOCHONDRION,
            "--genome",
            MITOCHONDRION,
            "--regions",
            MITOCHONDRION,
        ),
        "Give either sequences",
    ),
    "a genome without regions": (("--representation", "kmer", "--genome", MITOCHONDRION), "Give either sequences"),
    "no model": (("--sequences", MITOCHONDRION), "The representation 'hidden' needs a model"),
    "a model for k-mers": (
        ("--sequences", MITOCHONDRION, "--model", MITOCHONDRION, "--representation", "kmer"),
        "takes no model",
    ),
    "layers of logits": (
        ("--sequences", MITOCHONDRION, "--model", MITOCHONDRION, "--representation", "logits", "--layer", "1"),
        "has no layers to choose",
    ),
    "bases in a maximum": (
        ("--sequences", MITOCHONDRION, "--model", MITOCHONDRION, "--pooling", "max", "--pooling-weights", "bases"),
        "Weights by bases are for the mean",
    ),
    "both strands of tokens": (
        ("--sequences", MITOCHONDRION, "--model", MITOCHONDRION, "--pooling", "none", "--both-strands"),
        "do not lie on each other",
    ),
    "too much overlap": (
        ("--sequences", MITOCHONDRION, "--model", MITOCHONDRION, "--window-overlap", "1"),
        "The overlap of windows is 1.0",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_choices_that_contradict_each_other_are_refused(run_tool: Run, results: Path, case: str) -> None:
    arguments, sentence = CONTRADICTIONS[case]
    code, _, error = run_tool("embed", *arguments, "--output", results / "x")
    assert code == 1
    assert sentence in error
    assert no_traces(results)


def test_logits_of_a_model_without_head_are_refused(
    run_tool: Run, random_model: Path, tmp_path: Path, results: Path
) -> None:
    stored = open_model(random_model)
    tensors = {name: tensor for name, tensor in stored.read_tensors().items() if not name.startswith("lm_head.")}
    config = stored.config | {"architectures": ["EsmModel"]}
    write_model_file(tmp_path / "headless", tensors, config, stored.tokenizer, name="headless")
    for representation in ("logits", "lm-head-norm"):
        code, _, error = run_tool(
            "embed",
            *("--sequences", MITOCHONDRION, "--model", tmp_path / "headless", "--representation", representation),
            *("--output", results / "x"),
        )
        assert code == 1
        assert "has no language-model head" in error
        assert no_traces(results)


@pytest.mark.parametrize("option", ["--sequences", "--genome", "--regions", "--model"])
def test_a_named_pipe_is_refused_and_not_waited_for(
    run_tool: Run, random_model: Path, tmp_path: Path, results: Path, option: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    inputs: dict[str, object] = {"--sequences": MITOCHONDRION, "--model": random_model, option: pipe}
    if option in ("--genome", "--regions"):
        del inputs["--sequences"]
        inputs = {"--genome": MITOCHONDRION, "--regions": TEST_DATA / "mitochondrial_genes.bed"} | inputs
    code, _, error = run_tool("embed", *(part for pair in inputs.items() for part in pair), "--output", results / "x")
    assert code == 1
    assert "is not a regular file" in error
    assert no_traces(results)


def test_control_characters_of_names_and_paths_are_shown_escaped(
    run_tool: Run, random_model: Path, tmp_path: Path, results: Path
) -> None:
    path = tmp_path / "bad\x1b[31m\nname.fa"
    path.write_bytes(b">first\x1b[2J\nACGT\n")
    for sequences in (path, tmp_path / "absent\x1b[31m\n\u202e.fa"):
        code, _, error = run_tool("embed", "--sequences", sequences, "--model", random_model, "--output", results / "x")
        assert code == 1
        assert r"\x1b[31m\n" in error
        assert error.removesuffix("\n").isprintable()
        assert no_traces(results)


BASELINES = (
    ("--representation", "kmer"),
    ("--representation", "onehot"),
    ("--representation", "onehot", "--pooling", "none"),
)


@pytest.mark.parametrize("options", [(), ("--pooling", "none"), ("--pooling", "cls"), *BASELINES])
def test_a_record_of_n_alone_is_embedded_and_said(
    run_tool: Run, random_model: Path, tmp_path: Path, results: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "n.fa").write_text(f">known\n{'ACGTTGCA' * 100}\n>unknown\n{'N' * 800}\n")
    model = () if "--representation" in options else ("--model", random_model)
    outputs = ("--output", results / "x", "--output-format", "npz", "--summary", results / "x.tsv")
    code, said, _ = run_tool("embed", "--sequences", tmp_path / "n.fa", *model, *options, *outputs)
    assert code == 0
    assert "sequences of N alone: 1" in said
    lines = [line.split("\t")[:2] for line in (results / "x.tsv").read_text().splitlines()]
    assert lines[1:] == [["known", "ok"], ["unknown", "all_n"]]
    assert np.isfinite(np.load(results / "x", allow_pickle=False)["embeddings"]).all()


def test_a_record_of_5_million_bases_is_refused_on_request(
    run_tool: Run, random_model: Path, tmp_path: Path, results: Path
) -> None:
    (tmp_path / "long.fa").write_bytes(b">short\nACGT\n>long\n" + b"ACGTA" * 1_000_000 + b"\n")
    code, _, error = run_tool(
        "embed",
        *("--sequences", tmp_path / "long.fa", "--model", random_model, "--long-sequences", "fail"),
        *("--output", results / "x", "--summary", results / "x.tsv"),
    )
    assert code == 1
    assert "Sequence 'long' has 1,666," in error
    assert error.count("\n") == 1
    assert no_traces(results)


@pytest.mark.parametrize(("policy", "status"), [("truncate", "truncated"), ("windows", "ok")])
def test_a_record_of_5_million_bases_is_embedded(
    run_tool: Run, random_model: Path, tmp_path: Path, results: Path, policy: str, status: str
) -> None:
    long = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", dtype=np.uint8), 5_000_000).tobytes()
    (tmp_path / "long.fa").write_bytes(b">long\n" + long + b"\n>short\nACGT\n")
    code, _, _ = run_tool(
        "embed",
        *("--sequences", tmp_path / "long.fa", "--model", random_model, "--long-sequences", policy, "--layer", "0"),
        *("--output", results / "x", "--summary", results / "x.tsv"),
    )
    assert code == 0
    lines = [line.split("\t")[:3] for line in (results / "x.tsv").read_text().splitlines()]
    assert lines[1:] == [["long", status, "5000000"], ["short", "ok", "4"]]
