"""The whole task: what a user gives, what they find in the table, the VCF, the track and on stdout."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pysam
import pytest
import torch
import transformers
from conftest import DECODER, SIZES, TEST_DATA, VOCABULARY, Run
from dnalm.engine.scoring import VariantScorer
from dnalm.formats.fasta import FastaReader
from dnalm.methods.strands import reverse_complement
from PIL import Image

VARIANTS, GENOME = TEST_DATA / "mitochondrial_variants.vcf", TEST_DATA / "human_mitochondrion.fasta"
REGION = TEST_DATA / "transfer_rna.bed"
MASKED = (
    "--preset",
    "custom",
    "--scores",
    "llr_masked",
    "llr_masked_base",
    "llr_wildtype",
    "pll",
    "entropy",
    "jsd",
    "l2",
)

Score = Callable[..., tuple[pd.DataFrame, str]]


@pytest.fixture
def score(run_tool: Run, random_model: Path, tmp_path: Path) -> Score:
    """Score with the random model unless another is given; return the table and what was said."""

    def call(*options: object, model: Path = random_model) -> tuple[pd.DataFrame, str]:
        table = tmp_path / "table.tsv"
        code, said, error = run_tool(
            "score_variants", "--model", model, "--output-table", table, "--threads", 1, *options
        )
        assert (code, error) == (0, "")
        return read(table), said

    return call


def read(table: Path) -> pd.DataFrame:
    return pd.read_csv(table, sep="\t", dtype={"chrom": str}, keep_default_na=False, na_values=[""])


def mitochondrion() -> str:
    with FastaReader(GENOME) as reader:
        (record,) = reader
    return record.bases


def fasta(path: Path, *records: tuple[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in records))
    return path


def vcf(path: Path, *records: str) -> Path:
    path.write_text("".join(record.replace(" ", "\t") + "\n" for record in records))
    return path


def close(found: Any, expected: Any) -> None:
    expected = np.asarray(expected, dtype=float)
    scale = max(1.0, np.nanmax(np.abs(expected)))
    np.testing.assert_allclose(np.asarray(found, dtype=float), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.slow
def test_a_vcf_equals_its_windows_given_as_pairs(score: Score, tmp_path: Path) -> None:
    """Windows cut by hand: 51 bases, the variant at index 25; an indel's alleles with 51 bases each."""
    of_vcf, _ = score("--variants", VARIANTS, "--reference", GENOME, "--context", 51, *MASKED, "l1")
    genome = mitochondrion()
    references, alternatives = [], []
    rows = of_vcf[of_vcf["status"].isin(["OK", "TOKENIZATION_DIFFERS"])]
    for _, row in rows.iterrows():
        offset = 1 if len(row.ref) != len(row.alt) else 0
        first = row.pos - 1 + offset
        changed = genome[:first] + row.alt[offset:] + genome[first + len(row.ref) - offset :]
        start = max(0, min(first - 25, len(genome) - 51))
        references.append((row.id, genome[start : start + 51]))
        alternatives.append(("alt", changed[start : start + 51]))
    pairs = [fasta(tmp_path / "r.fa", *references), fasta(tmp_path / "a.fa", *alternatives)]
    of_pairs, _ = score("--reference-sequences", pairs[0], "--alternative-sequences", pairs[1], *MASKED, "l1")
    assert of_pairs["chrom"].tolist() == rows["id"].tolist()
    same_length = (rows["ref"].str.len() == rows["alt"].str.len()).to_numpy()
    assert same_length.sum() == 31
    for name in ("llr_masked", "llr_masked_base", "pll", "entropy", "jsd", "l2", "l1"):
        close(of_pairs[name][same_length], rows[name][same_length])
    for name in (
        "pll",
        "l2",
        "l1",
    ):  # pairs have no genome: where an insertion lies in a repeat, theirs is another place
        close(of_pairs[name], rows[name])


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--both-strands",)])
def test_saturation_equals_a_vcf_of_every_change(score: Score, tmp_path: Path, options: tuple[str, ...]) -> None:
    genome = mitochondrion()
    changes = [(at, letter) for at in range(3229, 3304) for letter in "ACGT" if letter != genome[at]]
    lines = [f"MT {at + 1} . {genome[at]} {letter} . . ." for at, letter in changes]
    chosen = ("--preset", "custom", "--scores", "llr_masked", "llr_wildtype", "l2", *options)
    named = fasta(tmp_path / "genome.fa", ("chrM", genome))
    region = tmp_path / "region.bed"
    region.write_text("M\t3229\t3304\tregion\n")
    of_vcf, _ = score("--variants", vcf(tmp_path / "x.vcf", *lines), "--reference", named, *chosen)
    track = tmp_path / "track"
    saturated, said = score("--saturation", region, "--reference", named, "--track", track, *chosen)
    assert "Variants: 75 bases, 225 alternative alleles, 225 scored" in said
    assert saturated["id"].unique().tolist() == ["region"]
    assert saturated["chrom"].unique().tolist() == ["chrM"]
    for name in ("pos", "ref", "alt", "status"):
        assert saturated[name].tolist() == of_vcf[name].tolist()
    for name in of_vcf.columns[5:-2]:
        close(saturated[name], of_vcf[name])
    drawn = pd.read_csv(track, sep="\t", header=None)
    assert drawn[0].unique().tolist() == ["chrM"]
    assert drawn[1].tolist() == list(range(3229, 3304))
    assert drawn[2].tolist() == list(range(3230, 3305))
    close(drawn[3], saturated.groupby("pos")["llr_masked"].mean())


def test_bases_without_a_letter_have_a_row_and_no_track(score: Score, tmp_path: Path) -> None:
    region = tmp_path / "region.bed"
    region.write_text("human_mitochondrion\t3105\t3108\tb\nhuman_mitochondrion\t3000\t3001\ta\n")
    table, _ = score("--saturation", region, "--reference", GENOME, "--track", tmp_path / "track")
    assert table[["pos", "ref"]].drop_duplicates().values.tolist() == [
        [3106, "C"],
        [3107, "N"],
        [3108, "T"],
        [3001, "G"],
    ]
    assert table["status"].tolist() == ["OK"] * 3 + ["REF_NOT_ACGT"] + ["OK"] * 6
    assert table["n_in_window"].fillna(-1).tolist() == [1] * 3 + [-1] + [1] * 3 + [0] * 3
    positions = [line.split("\t")[1] for line in (tmp_path / "track").read_text().splitlines()]
    assert positions == ["3000", "3105", "3107"]


EVERYTHING = {
    "1 5 ok A C,G": ["OK", "OK"],
    "1 5 lower a c": ["OK"],
    "chr1 6 alias C T": ["OK"],
    "1 5 none A .": ["NO_ALT"],
    "1 5 same A A": ["ALT_EQUALS_REF"],
    "1 5 star A C,*": ["OK", "SPANNING_DELETION"],
    "1 5 symbolic A <DEL>,<*>,T": ["SYMBOLIC_ALT", "SYMBOLIC_ALT", "OK"],
    "1 5 breakend A A[2:7[,]2:9]A,A.": ["BREAKEND_ALT"] * 3,
    "1 5 iupac A R": ["ALT_NOT_ACGT"],
    "1 5 wrong C T,<DEL>": ["REF_MISMATCH", "SYMBOLIC_ALT"],
    "1 11 n N A": ["REF_NOT_ACGT"],
    "1 0 telomere A C": ["BEYOND_CONTIG"],
    "1 60 last T C": ["OK"],
    "1 61 beyond A C": ["BEYOND_CONTIG"],
    "1 60 across TA T": ["BEYOND_CONTIG"],
    "X 5 other A C": ["UNKNOWN_CONTIG"],
    f"1 5 long A A{'C' * 10_000}": ["ALLELE_TOO_LONG"],
    "1 5 indel ACG A": ["TOKENIZATION_DIFFERS"],
    "1 9 two AT CC": ["TOKENIZATION_DIFFERS"],
    "2 50 desert G C": ["WINDOW_ALL_N"],
}


def test_every_alternative_allele_has_a_row_and_a_status(score: Score, tmp_path: Path) -> None:
    bases = "TTTTACGTATNACGTTGCAACGGATTACAGATTACACCAGGTTACAGGATCAGCATTCAT"
    desert = "N" * 49 + "G" + "N" * 50
    assert len(bases) == 60
    genome = fasta(tmp_path / "genome.fa", ("1", bases), ("chr2", desert))
    header = "#CHROM POS ID REF ALT QUAL FILTER INFO"
    records = [f"{record} . . X={number}" for number, record in enumerate(EVERYTHING)]
    output = tmp_path / "out.vcf.gz"
    table, said = score(
        *("--variants", vcf(tmp_path / "x.vcf", header, *records), "--reference", genome, "--context", 30),
        *("--preset", "custom", "--scores", "llr_masked", "l2", "--output-vcf", output),
    )
    expected = [status for statuses in EVERYTHING.values() for status in statuses]
    assert table["status"].tolist() == expected
    for column, number in (("chrom", 0), ("pos", 1), ("id", 2), ("ref", 3)):
        expected_column = [record.split(" ")[number] for record, statuses in EVERYTHING.items() for _ in statuses]
        assert table[column].astype(str).tolist() == expected_column
    assert table["alt"].tolist() == [alt for record in EVERYTHING for alt in record.split(" ")[4].split(",")]
    assert table["llr_masked"].notna().tolist() == [status == "OK" for status in expected]
    assert table["l2"].notna().tolist() == [status in ("OK", "TOKENIZATION_DIFFERS") for status in expected]
    scored = int(table["l2"].notna().sum())
    assert f"Variants: 20 records, {len(expected)} alternative alleles, {scored} scored" in said
    counts = {name: int(count) for name, count in re.findall(r"^  ([A-Z_]+): (\d+) \(", said, re.MULTILINE)}
    assert counts == {name: expected.count(name) for name in set(expected)}
    assert "the VCF is not sorted" in said
    written = gzip.decompress(output.read_bytes()).decode().splitlines()
    lines = [line for line in written if not line.startswith("#")]
    for line, record, statuses in zip(lines, records, EVERYTHING.values(), strict=True):
        before, info = line.rsplit("\t", 1)
        assert before == record.rsplit(" ", 1)[0].replace(" ", "\t")
        fields = dict(field.split("=") for field in info.split(";"))
        assert fields.pop("X") == record.rsplit("=", 1)[1]
        assert fields.pop("DNALM_STATUS").split(",") == statuses
        for value in fields.values():
            assert len(value.split(",")) == len(statuses)
    rows = iter(table.itertuples())
    for line, statuses in zip(lines, EVERYTHING.values(), strict=True):
        told = dict(field.split("=") for field in line.rsplit("\t", 1)[1].split(";"))
        for place in range(len(statuses)):
            value = told["DNALM_L2"].split(",")[place] if "DNALM_L2" in told else "."
            close(np.nan if value == "." else float(value), next(rows).l2)


def test_the_annotated_vcf_is_indexed_and_read_by_htslib(score: Score, tmp_path: Path) -> None:
    first, second = tmp_path / "1.vcf.gz", tmp_path / "2.vcf.gz"
    table, _ = score("--variants", VARIANTS, "--reference", GENOME, "--output-vcf", first, "--both-strands")
    pysam.tabix_index(str(first), preset="vcf")
    with pysam.VariantFile(str(first)) as file:
        assert {name for name in file.header.info if name.startswith("DNALM")} == {
            *("DNALM_LLR_MASKED", "DNALM_LLR_MASKED_STRAND_DIFFERENCE", "DNALM_STATUS")
        }
        (record,) = (found for found in file.fetch("human_mitochondrion", 8990, 8995) if found.pos == 8993)
        both = table[table["pos"] == 8993]
        close(record.info["DNALM_LLR_MASKED"], both["llr_masked"])
        close(record.info["DNALM_LLR_MASKED_STRAND_DIFFERENCE"], both["llr_masked_strand_difference"])
        assert record.info["DNALM_STATUS"] == ("OK", "OK")
        note = re.search("^##dnalm_score_variants=(.*)$", str(file.header), re.MULTILINE)
    assert note
    assert json.loads(note[1])["model"]["name"] == "dnalm-random"
    score("--variants", first, "--reference", GENOME, "--output-vcf", second, "--preset", "gtn-tutorial")
    with pysam.VariantFile(str(second)) as file:
        info = next(iter(file)).info
        assert {"DNALM_LLR_MASKED", "DNALM2_L2", "DNALM2_STATUS"} <= set(info.keys())


UNSORTED = TEST_DATA / "unsorted_variants.vcf"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variants", "name", "plain"),
    [
        (VARIANTS, "dataset.dat", False),
        (VARIANTS, "x.vcf.gz", False),
        (UNSORTED, "dataset.dat", True),
        (UNSORTED, "x.vcf.gz", False),
        (UNSORTED, "x.vcf.bgz", False),
    ],
)
def test_what_tabix_cannot_index_is_plain_unless_its_name_says_otherwise(
    score: Score, tmp_path: Path, variants: Path, name: str, plain: bool
) -> None:
    output = tmp_path / name
    _, said = score("--variants", variants, "--reference", GENOME, "--output-vcf", output)
    assert ("The annotated VCF is plain text: as it is, tabix cannot index it." in said) == plain
    content = output.read_bytes()
    assert content.startswith(b"##fileformat=VCF") == plain
    text = (content if plain else gzip.decompress(content)).decode()
    records = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    expected = [line.split("\t") for line in variants.read_text().splitlines() if not line.startswith("#")]
    assert [record[:7] for record in records] == [record[:7] for record in expected]
    assert all("DNALM_STATUS=" in record[7] for record in records)
    assert {path.name for path in tmp_path.iterdir()} == {name, "table.tsv"}


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 3])
def test_the_buffer_does_not_change_the_result(score: Score, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    options = ("--variants", VARIANTS, "--reference", GENOME, "--context", 30, "--both-strands", *MASKED)
    expected, _ = score(*options)
    monkeypatch.setattr(VariantScorer, "buffer_variants", most)
    found, _ = score(*options, "--batch-tokens", 5_000)
    assert found[["chrom", "pos", "id", "ref", "alt", "status"]].equals(
        expected[["chrom", "pos", "id", "ref", "alt", "status"]]
    )
    for name in expected.columns[5:-2]:
        close(found[name], expected[name])


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(score: Score, tmp_path: Path) -> None:
    for run in ("first", "second"):
        outputs = ("--output-vcf", tmp_path / f"{run}.vcf.gz", "--figure", tmp_path / f"{run}.png")
        score("--variants", VARIANTS, "--reference", GENOME, *outputs)
        (tmp_path / "table.tsv").rename(tmp_path / f"{run}.tsv")
        outputs = ("--track", tmp_path / f"{run}.bedgraph", "--figure", tmp_path / f"{run}_map.png")
        score("--saturation", REGION, "--reference", GENOME, *outputs)
        (tmp_path / "table.tsv").rename(tmp_path / f"{run}_map.tsv")
    for name in (".tsv", ".vcf.gz", ".png", ".bedgraph", "_map.png", "_map.tsv"):
        assert (tmp_path / f"first{name}").read_bytes() == (tmp_path / f"second{name}").read_bytes()


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A causal classifier: a model without a language-model head."""
    torch.manual_seed(0)
    config = transformers.MixtralConfig(**(SIZES | DECODER | {"num_local_experts": 2, "num_labels": 2}))
    transformers.MixtralForSequenceClassification(config).save_pretrained(tmp_path / "classifier")
    (tmp_path / "classifier" / "vocab.txt").write_text("\n".join(VOCABULARY))
    (tmp_path / "classifier" / "tokenizer_config.json").write_text(json.dumps({"eos_token": None}))
    return tmp_path / "classifier"


@pytest.mark.slow
def test_the_default_score_suits_the_model(
    score: Score, classifier: Path, demo_model: Path, model_folder: Callable[[str], Path]
) -> None:
    options = ("--variants", VARIANTS, "--reference", GENOME, "--context", 40)
    for model, name, why in (
        (model_folder("bert"), "llr_masked", "a changed letter changes one of its tokens"),
        (demo_model, "llr_causal", "reads left to right"),
        (classifier, "l2", "has no language-model head"),
        (TEST_DATA.parent / "tests" / "parity" / "data" / "dnabert2", "pll", "may change several of its tokens"),
    ):
        table, said = score(*options, model=model)
        assert table.columns[5] == name
        assert f"Score: {name}, since the model " in said
        assert why in said


def test_a_model_without_a_head_refuses_likelihoods(run_tool: Run, classifier: Path, tmp_path: Path) -> None:
    for chosen in (
        ("--preset", "gtn-tutorial"),
        ("--preset", "custom", "--scores", "llr_causal"),
        ("--preset", "custom", "--scores", "l2", "--representation", "logits"),
    ):
        code, _, error = run_tool(
            "score_variants",
            *("--variants", VARIANTS, "--reference", GENOME, "--model", classifier, "--output-table", tmp_path / "t"),
            *chosen,
        )
        assert code == 1
        assert "has no language-model head" in error
        assert not (tmp_path / "t").exists()


def test_the_tutorials_distance_is_of_max_pooled_logits_without_padding(score: Score, demo_model: Path) -> None:
    """The notebook's own lines, one sequence at a time so that there is no padding, without special tokens."""
    from dnalm.models.registry import load_language_model
    from dnalm.models.sources import open_model

    table, said = score(
        *("--reference-sequences", TEST_DATA / "cftr_reference.fasta"),
        *("--alternative-sequences", TEST_DATA / "cftr_alternative.fasta"),
        *("--preset", "gtn-tutorial"),
        model=demo_model,
    )
    assert table[["chrom", "pos", "id", "ref", "alt"]].values.tolist() == [
        ["wild_type", 3, "silent", "T", "A"],
        ["wild_type", 17, "delta_F508", "TCTT", "T"],
    ]
    assert table["status"].tolist() == ["OK", "LENGTHS_DIFFER"]
    assert "LENGTHS_DIFFER: 1 (scored, the longer sequence of the pair cut to the length of the shorter)" in said
    model = load_language_model(open_model(demo_model), head=True)
    pooled = []
    for name in ("cftr_reference.fasta", "cftr_alternative.fasta"):
        with FastaReader(TEST_DATA / name) as reader:
            first = next(iter(reader)).bases
        ids = torch.from_numpy(model.encode([first])[0].ids)[None]
        with torch.inference_mode():
            logits = model.with_head(ids)[0]  # type: ignore[misc]
        pooled.append(logits[:, 1:].max(dim=1)[0])
    close(table["l2"][0], torch.norm(pooled[0] - pooled[1]).item())


def test_only_variants_in_regions_are_scored(score: Score, tmp_path: Path) -> None:
    regions = tmp_path / "regions.bed"
    regions.write_text("MT\t3000\t4000\nMT\t3242\t3243\nchrM\t8992\t8993\n")
    named = fasta(tmp_path / "genome.fa", ("chrM", mitochondrion()))
    renamed = tmp_path / "x.vcf"
    renamed.write_text(VARIANTS.read_text().replace("human_mitochondrion", "M"))
    table, said = score("--variants", renamed, "--reference", named, "--regions", regions)
    inside = table["status"] == "OK"
    assert table[inside]["pos"].tolist() == [3243, 3271, 3460, 8993, 8993]
    assert table[inside]["llr_masked"].notna().all()
    assert set(table[~inside]["status"]) == {"OUTSIDE_REGIONS", "SYMBOLIC_ALT"}
    assert len(table) == 35
    assert "OUTSIDE_REGIONS: 29" in said


@pytest.mark.slow
def test_a_variants_score_does_not_depend_on_the_others(score: Score, tmp_path: Path) -> None:
    options = ("--reference", GENOME, "--context", 30, *MASKED)
    everything, _ = score("--variants", VARIANTS, *options)
    lines = [line for line in VARIANTS.read_text().splitlines() if not line.startswith("#")]
    backwards, _ = score("--variants", vcf(tmp_path / "x.vcf", *lines[::-1]), *options)
    alone, _ = score("--variants", vcf(tmp_path / "y.vcf", lines[9]), *options)
    for name in everything.columns[5:-2]:
        expected = everything.sort_values(["pos", "alt"])[name]
        close(backwards.sort_values(["pos", "alt"])[name], expected)
        close(alone[name], everything[everything["pos"] == 3243][name])


def test_a_genome_without_an_index_in_a_folder_that_is_not_ours(score: Score, tmp_path: Path) -> None:
    folder = tmp_path / "genomes"
    folder.mkdir()
    (folder / "genome.fa").write_bytes(GENOME.read_bytes())
    folder.chmod(0o500)
    score("--variants", VARIANTS, "--reference", folder / "genome.fa")
    assert [path.name for path in folder.iterdir()] == ["genome.fa"]


def test_the_genomes_other_strand_gives_the_same_with_both_strands(score: Score, tmp_path: Path) -> None:
    genome = mitochondrion()
    length = len(genome)
    places = [75, 1438, 3243, 8993, 16_500]
    forward = [f"m {p} . {genome[p - 1]} {'A' if genome[p - 1] != 'A' else 'G'}" for p in places]
    backward = []
    for line in forward:
        _, place, _, *letters = line.split()
        turned = [reverse_complement(letter) for letter in letters]
        backward.append(f"m {length + 1 - int(place)} . {turned[0]} {turned[1]}")
    found = []
    for bases, lines in ((genome, forward), (reverse_complement(genome), backward)):
        variants, reference = vcf(tmp_path / "x.vcf", *lines), fasta(tmp_path / "x.fa", ("m", bases))
        chosen = ("--context", 51, "--both-strands", *MASKED)
        table, _ = score("--variants", variants, "--reference", reference, *chosen)
        found.append(table)
    for name in ("llr_masked", "llr_masked_base", "pll", "entropy", "jsd", "l2"):
        close(found[1][name], found[0][name])


def test_the_figure_says_what_was_run(score: Score, tmp_path: Path) -> None:
    score("--variants", VARIANTS, "--reference", GENOME, "--figure", tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        facts = json.loads(picture.info["Description"])
    assert facts["options"]["scores"] == ["llr_masked"]
    assert facts["options"]["context"] == 200


@pytest.mark.slow
def test_bytes_that_are_no_utf_8_go_through_to_every_output(run_tool: Run, random_model: Path, tmp_path: Path) -> None:
    """A VCF of Latin-1, as older databases write it: in its header, ID, INFO and a sample."""
    header = b"##source=gen\xe9\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\xe9\n"
    (tmp_path / "x.vcf").write_bytes(header + b"1\t5\tgen\xe9\tA\tC\t.\t.\tX=\xe9\tGT\t0/1\n")
    genome = fasta(tmp_path / "genome.fa", ("1", "TTTTACGTATCACGTTGCAACGGATTACAGATTACACCAGGTTACAGGATCAGCATTCAT"))
    outputs = [tmp_path / name for name in ("table", "out.vcf.gz", "x.png")]
    inputs = ("--variants", tmp_path / "x.vcf", "--reference", genome, "--model", random_model, "--context", 30)
    options = ("--output-table", outputs[0], "--output-vcf", outputs[1], "--figure", outputs[2])
    code, _, error = run_tool("score_variants", *inputs, *options, "--threads", 1)
    assert (code, error) == (0, "")
    assert b"gen\xe9\t" in outputs[0].read_bytes()
    written = gzip.decompress(outputs[1].read_bytes())
    assert all(part in written for part in (b"##source=gen\xe9\n", b"\ts\xe9\n", b"gen\xe9\tA\tC", b"X=\xe9;"))
    assert outputs[2].read_bytes().startswith(b"\x89PNG")


def test_the_window_is_what_the_model_takes(score: Score, model_folder: Callable[[str], Path]) -> None:
    _, said = score("--variants", VARIANTS, "--reference", GENOME)
    assert "Windows: 200 bases" in said
    folder = model_folder("bert")  # 200 tokens of 3 bases, CLS among them
    options = ("--variants", VARIANTS, "--reference", GENOME)
    _, said = score(*options, "--context", 597, model=folder)
    assert "Windows: 597 bases" in said


def test_bfloat16_says_how_near_it_is(score: Score) -> None:
    exact, _ = score("--variants", VARIANTS, "--reference", GENOME)
    lower, said = score("--variants", VARIANTS, "--reference", GENOME, "--dtype", "bfloat16")
    r = exact["llr_masked"].corr(lower["llr_masked"])
    assert 0.99 < r < 1
    assert f"Precision: with float32, on the first variants, llr_masked r = {r:.4f}" in said


def test_what_was_mended_of_pairs_is_counted(score: Score, tmp_path: Path) -> None:
    references = fasta(tmp_path / "r.fa", ("a", "acgtACGTRA"), ("b", "ACGUACGTAA"))
    alternatives = fasta(tmp_path / "a.fa", ("c", "ACGTACCTRA"), ("d", "ACGUACGTAA"))
    table, said = score("--reference-sequences", references, "--alternative-sequences", alternatives)
    assert table["status"].tolist() == ["OK", "ALT_EQUALS_REF"]
    assert table["n_in_window"].fillna(-1).tolist() == [1, -1]
    for line in ("lower-case letters read as upper case: 4", "IUPAC letters read as N: 2", "letters U read as T: 2"):
        assert line in said
