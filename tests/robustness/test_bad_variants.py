"""Variants that users bring by mistake, or that are hard: one sentence and nothing left, or a row with a status."""

import gzip
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY, TEST_DATA, Run

VARIANTS, GENOME = TEST_DATA / "mitochondrial_variants.vcf", TEST_DATA / "human_mitochondrion.fasta"
REFERENCES, ALTERNATIVES = TEST_DATA / "cftr_reference.fasta", TEST_DATA / "cftr_alternative.fasta"
OF_VCF = ("--variants", VARIANTS, "--reference", GENOME)
OF_PAIRS = ("--reference-sequences", REFERENCES, "--alternative-sequences", ALTERNATIVES)
HEADER = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
CONTIG = "human_mitochondrion"


@pytest.fixture
def refused(run_tool: Run, random_model: Path, tmp_path: Path) -> Callable[..., str]:
    """Run a job that must be refused, and return its sentence."""

    def call(*arguments: object, model: Path = random_model) -> str:
        results = tmp_path / "results"
        results.mkdir()
        outputs: list[object] = ["--output-table", results / "table", "--figure", results / "figure"]
        if "--variants" in arguments:
            outputs += ["--output-vcf", results / "vcf"]
        code, _, error = run_tool("score_variants", "--model", model, "--threads", 1, *outputs, *arguments)
        assert code == 1
        assert error.startswith("dnalm_score_variants: ")
        assert error.endswith(".\n")
        assert error.count("\n") == 1
        assert list(results.iterdir()) == []
        return error

    return call


@pytest.fixture
def scored(run_tool: Run, random_model: Path, tmp_path: Path) -> Callable[..., tuple[pd.DataFrame, str]]:
    """Run a job that must do, and return its table and what it said."""

    def call(*arguments: object) -> tuple[pd.DataFrame, str]:
        code, said, error = run_tool(
            "score_variants",
            *("--model", random_model, "--threads", 1, "--output-table", tmp_path / "table", *arguments),
        )
        assert (code, error) == (0, "")
        return pd.read_csv(tmp_path / "table", sep="\t", keep_default_na=False, na_values=[""]), said

    return call


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


BAD_VCFS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "The file 'x.vcf' is empty"),
    "no records": (HEADER, "The file 'x.vcf' has no variant; choose a VCF file with at least one"),
    "no VCF": (">a\nACGT\n", "Line 1 of 'x.vcf' is no variant"),
    "cut short": (
        gzip.compress("".join(f"{CONTIG}\t73\trs{n * n}\tA\tG\n" for n in range(20_000)).encode())[:-30],
        "'x.vcf' is damaged or cut short after line",
    ),
    "no ALT at all": (
        f"{CONTIG}\t73\t.\tA\t.\n",
        "None of the 1 alternative alleles has a score (1 not scored: no alternative allele)",
    ),
    "ALT is REF": (f"{CONTIG}\t73\t.\tA\tA\n", "(1 not scored: ALT is REF)"),
    "beyond the contig": (f"{CONTIG}\t16570\t.\tA\tC\n", "(1 not scored: the position lies outside the contig)"),
    "another genome": (
        f"{CONTIG}\t73\t.\tC\tG\n{CONTIG}\t74\t.\tA\tG\nchr7\t5\t.\tA\tC\n",
        "(2 not scored: REF is not what the genome has there; 1 not scored: the genome lacks the contig)",
    ),
    "indels alone": (
        f"{CONTIG}\t73\t.\tAT\tA\n",
        "(1 without llr scores, since REF and ALT differ in more than one token; use pll)",
    ),
    "a huge insertion": (f"{CONTIG}\t73\t.\tA\tA{'C' * 10_000}\n", "an allele is longer than half the window"),
    "a line that is none, late": (
        f"{CONTIG}\t73\t.\tA\tG\n" * 3_000 + "chr1\tx\t.\tA\tG\n",
        "Line 3001 of 'x.vcf' has the position 'x'",
    ),
}


@pytest.mark.parametrize("case", BAD_VCFS)
def test_bad_vcfs_are_refused(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    content, sentence = BAD_VCFS[case]
    assert sentence in refused("--variants", write(tmp_path / "x.vcf", content), "--reference", GENOME)


BAD_PAIRS: dict[str, tuple[str, str]] = {
    "fewer": (">a\nACGT\n", "'a.fa' has 1 sequences and 'cftr_reference.fasta' more; pairs are matched by their order"),
    "more": (">a\nACGT\n" * 5, "'cftr_reference.fasta' has 2 sequences and 'a.fa' more"),
    "protein": ((TEST_DATA / "protein.fasta").read_text(), "it looks like protein; use DNA sequences"),
    "empty": ("", "The file 'a.fa' is empty"),
    "the same": (REFERENCES.read_text(), "None of the 2 alternative alleles has a score (2 not scored: ALT is REF)"),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_bad_pairs_are_refused(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    content, sentence = BAD_PAIRS[case]
    alternatives = write(tmp_path / "a.fa", content)
    assert sentence in refused("--reference-sequences", REFERENCES, "--alternative-sequences", alternatives)


BAD_REGIONS = {
    "no region": ("# nothing\n", "has no region"),
    "another genome": ("chr1\t5\t10\n", "is on the contig 'chr1', which the genome 'human_mitochondrion.fasta' lacks"),
    "beyond the contig": (f"{CONTIG}\t16000\t16570\n", "ends at 16,570"),
    "N alone": (f"{CONTIG}\t3106\t3107\n", "(1 not scored: REF has other letters than A, C, G and T)"),
}


@pytest.mark.parametrize("case", BAD_REGIONS)
def test_bad_regions_are_refused(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    content, sentence = BAD_REGIONS[case]
    assert sentence in refused("--saturation", write(tmp_path / "x.bed", content), "--reference", GENOME)


CUSTOM = ("--preset", "custom", "--scores")
BAD_CHOICES: dict[str, tuple[tuple[object, ...], str]] = {
    "nothing": ((), "Give either variants, or reference sequences together with alternative sequences"),
    "two inputs": ((*OF_VCF, *OF_PAIRS), "Give either variants, or"),
    "half a pair": (OF_PAIRS[:2], "Give either variants, or"),
    "no genome": (OF_VCF[:2], "Variants and saturation need a reference genome, pairs of sequences none"),
    "a genome of pairs": ((*OF_PAIRS, "--reference", GENOME), "need a reference genome, pairs of sequences none"),
    "regions of pairs": ((*OF_PAIRS, "--regions", TEST_DATA / "transfer_rna.bed"), "go with variants (VCF)"),
    "no scores": ((*OF_VCF, "--preset", "custom"), "The preset custom needs at least one score of llr_masked, "),
    "scores of a preset": ((*OF_VCF, "--scores", "pll"), "The preset snv-effect chooses scores, representation"),
    "a layer of a preset": ((*OF_VCF, "--layer", 1), "choose custom for yours"),
    "a layer of logits": ((*OF_VCF, *CUSTOM, "l2", "--representation", "logits", "--layer", 1), "have no layers"),
    "no such layer": ((*OF_VCF, *CUSTOM, "l2", "--layer", 12), "has no layer 12; choose 0 (embeddings) to 2 (last)"),
    "a causal score": ((*OF_VCF, *CUSTOM, "llr_causal"), "llr_causal is for models that read left to right"),
    "too large a window": (
        (*OF_VCF, "--context", 3_070),
        "A window of 3,070 bases has more tokens than the 1,024 that the model 'dnalm-random' reads; use a context of at "
        "most 3,069 bases",
    ),
    "no genome file": ((*OF_VCF[:2], "--reference", TEST_DATA / "none.fa"), "does not exist"),
    "a VCF as the genome": ((*OF_VCF[:2], "--reference", VARIANTS), "cannot be indexed"),
    "mismatch": (
        (*OF_VCF[:2], "--reference", TEST_DATA / "human_mitochondrion.fasta", "--on-ref-mismatch", "fail"),
        "Line 9 of 'x.vcf' has the REF 'C' at human_mitochondrion:73, where the genome 'human_mitochondrion.fasta' has 'A'",
    ),
}


@pytest.mark.parametrize("case", BAD_CHOICES)
def test_choices_that_do_not_fit_are_refused(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    arguments, sentence = BAD_CHOICES[case]
    if case == "mismatch":
        wrong = VARIANTS.read_text().replace("73\tm.73A>G\tA", "73\tm.73A>G\tC")
        arguments = ("--variants", write(tmp_path / "x.vcf", wrong), *arguments[2:])
    assert sentence in refused(*arguments)


def test_a_track_goes_with_saturation_alone(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "A track goes with saturation" in refused(*OF_VCF, "--track", tmp_path / "track")


def test_an_output_that_is_an_input_is_refused(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    variants = write(tmp_path / "x.vcf", VARIANTS.read_text())
    options = ("--variants", variants, "--reference", GENOME, "--model", random_model)
    code, _, error = run_tool("score_variants", *options, "--output-table", tmp_path / "t", "--output-vcf", variants)
    assert code == 1
    assert "is also an input" in error
    assert variants.read_text() == VARIANTS.read_text()


def test_unsorted_variants_keep_their_order_and_it_is_said(
    scored: Callable[..., tuple[pd.DataFrame, str]], tmp_path: Path
) -> None:
    lines = [f"{CONTIG}\t{position}\t.\tA\tG\t.\t.\t.\n" for position in (3243, 73, 263)]
    variants = write(tmp_path / "x.vcf", "##fileformat=VCFv4.2\n" + HEADER + "".join(lines))
    table, said = scored("--variants", variants, "--reference", GENOME, "--output-vcf", tmp_path / "y.vcf.gz")
    assert table["pos"].tolist() == [3243, 73, 263]
    assert "Warning: the VCF is not sorted; its order is kept, and tabix will index it only once it is sorted." in said
    written = gzip.decompress((tmp_path / "y.vcf.gz").read_bytes()).decode().splitlines()
    assert [line.split("\t")[1] for line in written if not line.startswith("#")] == ["3243", "73", "263"]


def test_a_vcf_without_header_and_contigs_is_read(
    scored: Callable[..., tuple[pd.DataFrame, str]], tmp_path: Path
) -> None:
    variants = write(tmp_path / "x.vcf", f"{CONTIG}\t73\t.\tA\tG\n")
    table, said = scored("--variants", variants, "--reference", GENOME, "--output-vcf", tmp_path / "y.vcf.gz")
    assert table["status"].tolist() == ["OK"]
    assert "the VCF has no line of column names; one was made" in said
    assert "records that end before INFO, filled with dots: 1" in said


def test_a_thousand_samples_pass_untouched(scored: Callable[..., tuple[pd.DataFrame, str]], tmp_path: Path) -> None:
    names = "\t".join(f"s{number}" for number in range(1_000))
    genotypes = "\t".join(f"{number % 2}/1:{number}" for number in range(1_000))
    line = f"{CONTIG}\t%d\t.\tA\tG\t.\t.\tAF=0.10\tGT:DP\t{genotypes}\n"
    text = HEADER.rstrip("\n") + f"\tFORMAT\t{names}\n" + line % 73 + line % 263
    table, _ = scored(
        *("--variants", write(tmp_path / "x.vcf", text), "--reference", GENOME, "--output-vcf", tmp_path / "y.vcf.gz")
    )
    assert table["status"].tolist() == ["OK", "OK"]
    written = gzip.decompress((tmp_path / "y.vcf.gz").read_bytes()).decode().splitlines()
    for record in written[-2:]:
        columns = record.split("\t")
        assert "\t".join(columns[8:]) == f"GT:DP\t{genotypes}"
        assert columns[7].startswith("AF=0.10;DNALM_")


def test_many_mismatches_are_warned_of(scored: Callable[..., tuple[pd.DataFrame, str]], tmp_path: Path) -> None:
    text = f"{CONTIG}\t73\t.\tA\tG\n{CONTIG}\t74\t.\tA\tG\n"
    _, said = scored("--variants", write(tmp_path / "x.vcf", text), "--reference", GENOME)
    assert "Warning: many REF are not what the genome has; is it the genome that the variants were called on?" in said


def test_an_ended_job_leaves_nothing(tmp_path: Path) -> None:
    lines = [f"{CONTIG}\t{position}\t.\tA\tG\n" for position in (73, 263, 750, 1438)] * 20_000
    variants = write(tmp_path / "x.vcf", "".join(lines))
    results = tmp_path / "results"
    results.mkdir()
    command = [sys.executable, REPOSITORY / "scripts" / "dnalm_score_variants.py", "--variants", variants]
    command += ["--reference", GENOME, "--model", TEST_DATA / "planted_model.safetensors", "--threads", "1"]
    command += ["--output-table", results / "t", "--output-vcf", results / "v"]
    job = subprocess.Popen(list(map(str, command)), text=True, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not any(path.stat().st_size for path in results.glob(".t.*.partial")):
        assert job.poll() is None, "the job ended before it was in the middle"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    job.communicate()
    assert job.returncode == 128 + signal.SIGTERM
    assert list(results.iterdir()) == []
