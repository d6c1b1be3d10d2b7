"""Maps of embeddings from the entry script: coordinates, labels, pictures, and what is told."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, TEST_DATA, Run
from dnalm.formats.embeddings_reader import read_embeddings
from dnalm.formats.fasta import FastaReader
from dnalm.tasks import projection
from PIL import Image

EMBEDDINGS = TEST_DATA / "two_genomes_embeddings.h5ad"
METADATA = TEST_DATA / "two_genomes_metadata.tsv"


@pytest.fixture
def mapped(run_tool: Run, tmp_path: Path) -> Callable[..., tuple[pd.DataFrame, dict[str, str], str]]:
    """Map embeddings and return the table, the statistics and what was said."""

    def call(embeddings: Path, *options: object) -> tuple[pd.DataFrame, dict[str, str], str]:
        outputs = {name: tmp_path / name for name in ("output", "table", "statistics")}
        named = [part for name, path in outputs.items() for part in (f"--{name}", path)]
        code, said, error = run_tool("project", "--embeddings", embeddings, *named, *options)
        assert (code, error) == (0, "")
        table = pd.read_csv(outputs["table"], sep="\t", keep_default_na=False)
        statistics = pd.read_csv(outputs["statistics"], sep="\t", index_col="measure", dtype=str)
        return table, statistics["value"].to_dict(), said

    return call


Mapped = Callable[..., tuple[pd.DataFrame, dict[str, str], str]]


@pytest.mark.slow
def test_pca_is_that_of_a_plain_singular_value_decomposition(mapped: Mapped) -> None:
    table, statistics, said = mapped(EMBEDDINGS)
    data = read_embeddings(EMBEDDINGS)
    centred = data.vectors.astype(np.float64) - data.vectors.astype(np.float64).mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    expected = (left * values)[:, :2]
    found = table[["x", "y"]].to_numpy()
    signs = np.sign((expected * found).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    shares = values**2 / (values**2).sum()
    assert [float(statistics[f"explained_variance_PC{number + 1}"]) for number in range(10)] == pytest.approx(
        shares[:10], abs=1e-6
    )
    assert f"Explained variance: PC1 {shares[0]:.1%}, PC2 {shares[1]:.1%}" in said
    assert table["id"].tolist() == data.ids


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["parquet", "tsv", "npz"])
def test_every_format_gives_the_same_map(mapped: Mapped, suffix: str) -> None:
    expected, _, _ = mapped(EMBEDDINGS)
    found, _, _ = mapped(EMBEDDINGS.with_suffix(f".{suffix}"))
    assert found["id"].equals(expected["id"])
    np.testing.assert_allclose(found[["x", "y"]], expected[["x", "y"]], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pca", "umap", "tsne"])
@pytest.mark.parametrize("figure_format", ["png", "pdf", "svg"])
def test_equal_runs_give_equal_bytes(run_tool: Run, tmp_path: Path, method: str, figure_format: str) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        code, _, _ = run_tool(
            "project",
            *("--embeddings", EMBEDDINGS, "--method", method, "--figure-format", figure_format),
            *("--metadata", METADATA, "--color-by", "genome", "--seed", 3),
            *("--output", tmp_path / name / "map", "--table", tmp_path / name / "table"),
            *("--statistics", tmp_path / name / "statistics"),
        )
        assert code == 0
    for output in ("map", "table", "statistics"):
        assert (tmp_path / "first" / output).read_bytes() == (tmp_path / "second" / output).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_the_seed_of_umap_matters_and_every_method_says_its_settings(mapped: Mapped, method: str) -> None:
    first, statistics, said = mapped(EMBEDDINGS, "--method", method, "--components", 20, "--perplexity", 9)
    second, _, _ = mapped(EMBEDDINGS, "--method", method, "--components", 20, "--perplexity", 9, "--seed", 1)
    assert first[["x", "y"]].equals(second[["x", "y"]]) == (method == "tsne")  # t-SNE draws no random number
    assert "64 dimensions → 20 PCs (9" in said
    assert ("15 neighbours, min. distance 0.1" if method == "umap" else "perplexity 9") in said
    assert 0.9 < float(statistics["explained_variance_of_components"]) < 1


@pytest.mark.slow
@pytest.mark.parametrize("color", ["genome", "2"])
def test_metadata_is_joined_by_id_whatever_its_order(mapped: Mapped, tmp_path: Path, color: str) -> None:
    known = pd.read_csv(METADATA, sep="\t", dtype=str)
    known.sample(frac=1, random_state=0).to_csv(tmp_path / "m", sep="\t", index=False)
    table, statistics, _ = mapped(EMBEDDINGS, "--metadata", tmp_path / "m", "--color-by", color)
    assert list(table.columns[:5]) == ["id", "x", "y", "genome", "gc"]
    assert table["genome"].tolist() == known["genome"].tolist()
    assert statistics["coloured_by"] == "genome"
    assert (statistics["groups"], statistics["not_given"]) == ("2", "0")


@pytest.mark.slow
def test_ids_stand_in_any_column_of_the_metadata(mapped: Mapped, tmp_path: Path) -> None:
    known = pd.read_csv(METADATA, sep="\t", dtype=str)[["gc", "id", "genome"]].rename(columns={"id": "window"})
    known.to_csv(tmp_path / "m", sep="\t", index=False)
    for identifier in ("2", "window"):
        options = ("--metadata", tmp_path / "m", "--metadata-id", identifier, "--color-by", "3")
        table, _, _ = mapped(EMBEDDINGS, *options)
        assert list(table.columns[:5]) == ["id", "x", "y", "genome", "gc"]
        assert "window" not in table


def test_records_without_metadata_are_not_given_and_counted(mapped: Mapped, tmp_path: Path) -> None:
    known = pd.read_csv(METADATA, sep="\t", dtype=str)
    known.loc[3, "genome"] = "NA"
    pd.concat([known[:70], known[:2].assign(id=["u", "v"])]).to_csv(tmp_path / "m", sep="\t", index=False)
    table, statistics, said = mapped(EMBEDDINGS, "--metadata", tmp_path / "m", "--color-by", "genome")
    assert f"Not in the metadata, and shown as not given: 10 ids, the first is '{known['id'][70]}'" in said
    assert "Lines of the metadata without a record, left out: 2" in said
    assert "Coloured by 'genome': 11 records without a value" in said
    assert statistics["not_given"] == "11"
    assert Counter(table["genome"]) == {"ecoli": 39, "human": 30, "NA": 1, "": 10}


def test_lines_of_metadata_without_an_id_are_left_out_and_counted(mapped: Mapped, tmp_path: Path) -> None:
    (tmp_path / "m").write_text(METADATA.read_text() + "\thuman\t0.5\n\tecoli\t0.4\n")
    table, _, said = mapped(EMBEDDINGS, "--metadata", tmp_path / "m", "--color-by", "genome")
    assert "Lines of the metadata without an id, left out: 2" in said
    assert Counter(table["genome"]) == {"ecoli": 40, "human": 40}


def test_repeated_ids_of_the_data_all_get_their_metadata(mapped: Mapped, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    table = pd.DataFrame(vectors, columns=["dimension_0", "dimension_1", "dimension_2"])
    table.insert(0, "id", ["a", "b", "a", "c", "b"])
    table.to_csv(tmp_path / "x", sep="\t", index=False)
    (tmp_path / "m").write_text("id\tgroup\nb\ttwo\na\tone\n")
    found, _, said = mapped(tmp_path / "x", "--metadata", tmp_path / "m", "--color-by", "group")
    assert found["id"].tolist() == ["a", "b", "a", "c", "b"]
    assert found["group"].tolist() == ["one", "two", "one", "", "two"]
    assert "1 id, the first is 'c'" in said


@pytest.mark.slow
def test_the_metadatas_columns_come_before_those_of_the_data(mapped: Mapped, tmp_path: Path) -> None:
    (tmp_path / "m").write_text("id\tx\tlength\n" + "".join(f"{name}\t{n % 2}\tlong\n" for n, name in enumerate(ids())))
    table, statistics, _ = mapped(EMBEDDINGS, "--metadata", tmp_path / "m", "--color-by", "length")
    assert list(table.columns[:5]) == ["id", "x", "y", "length", "x_"]
    assert set(table["length"]) == {"long"}
    assert set(table["length_"]) == {600}
    assert statistics["groups"] == "1"


def ids() -> list[str]:
    return read_embeddings(EMBEDDINGS).ids


@pytest.mark.slow
def test_a_column_of_the_data_colours(mapped: Mapped) -> None:
    _, statistics, _ = mapped(EMBEDDINGS.with_suffix(".parquet"), "--color-by", "genome")
    assert statistics["coloured_by"] == "genome"
    with_metadata = ("--metadata", METADATA, "--color-by", "length")
    assert mapped(EMBEDDINGS, *with_metadata)[1]["coloured_by"] == "length"


@pytest.mark.parametrize(
    ("values", "color_as", "numbers"),
    [
        (["a", "b", "1"], "auto", False),
        (["0.5", "1", ""], "auto", True),
        ([str(number) for number in range(16)], "auto", False),
        ([str(number) for number in range(17)], "auto", True),
        (["0", "1", "NA"], "numbers", True),
        (["0.5", "0.7", "0.5"], "categories", False),
        (["True", "False", "True"], "auto", False),
    ],
)
def test_a_column_is_read_as_what_it_looks_or_as_is_asked(values: list[str], color_as: str, numbers: bool) -> None:
    found = projection._as_colors(pd.Series(values, name="column"), color_as)
    assert isinstance(found, projection.Numbers) == numbers


def test_columns_of_every_kind_are_read() -> None:
    for column in (
        pd.Series([True, False, True]),
        pd.Series(pd.Categorical(["0", "1", None])),
        pd.Series([1, 2, None], dtype="Int64"),
    ):
        found = projection._as_colors(column.rename("column"), "auto")
        assert isinstance(found, projection.Categories)
        assert len(found.labels) == 2
    found = projection._as_colors(pd.Series([0.5, np.nan, np.inf], name="column"), "auto")
    assert isinstance(found, projection.Numbers)
    np.testing.assert_array_equal(found.values, [0.5, np.nan, np.nan])


def test_categories_are_ordered_by_frequency_then_name() -> None:
    found = projection._as_colors(pd.Series(["c", "b", "a", "b", "", "c"], name="column"), "auto")
    assert isinstance(found, projection.Categories)
    assert found.labels == ["b", "c", "a"]
    assert found.codes.tolist() == [1, 0, 2, 0, -1, 1]


def test_a_map_of_kmers_shows_the_two_genomes_apart(mapped: Mapped, tmp_path: Path) -> None:
    """Counts of 2-mers, as simple as embeddings can be."""
    pairs = [first + second for first in "ACGT" for second in "ACGT"]
    with FastaReader(TEST_DATA / "two_genomes.fasta") as reader:
        counts = [[record.bases.count(pair) for pair in pairs] for record in reader]
    table = pd.DataFrame(counts, columns=pairs)
    table.insert(0, "id", ids())
    table.to_csv(tmp_path / "x", sep="\t", index=False)
    _, statistics, said = mapped(tmp_path / "x", "--metadata", METADATA, "--color-by", "genome")
    assert float(statistics["silhouette_map"]) > 0.2
    assert f"{float(statistics['silhouette_map']):.3f} on the map" in said
    assert "tabular, columns 'AA' to 'TT'" in said


@pytest.mark.slow
def test_scaling_changes_what_counts(mapped: Mapped, tmp_path: Path) -> None:
    data = read_embeddings(EMBEDDINGS)
    table = pd.DataFrame(data.vectors * np.where(np.arange(64) == 5, 1_000, 1))
    table.insert(0, "id", data.ids)
    table.to_csv(tmp_path / "x", sep="\t", index=False)
    shares = {
        scaling: float(mapped(tmp_path / "x", "--scaling", scaling)[1]["explained_variance_PC1"])
        for scaling in ("none", "unit-variance")
    }
    assert shares["none"] > 0.99
    assert shares["unit-variance"] < 0.5


@pytest.mark.slow
def test_the_picture_says_what_was_done(run_tool: Run, tmp_path: Path) -> None:
    options = ("--metadata", METADATA, "--color-by", "genome", "--title", "Windows of two genomes")
    for figure_format in ("svg", "png"):
        code, said, _ = run_tool(
            "project",
            *("--embeddings", EMBEDDINGS, *options, "--figure-format", figure_format),
            *("--output", tmp_path / f"map.{figure_format}"),
        )
        assert code == 0
    svg = (tmp_path / "map.svg").read_text()
    on_the_map, everywhere = re.findall(r"(-?[0-9.]+) on the map, (-?[0-9.]+) in all", said)[0]
    silhouette = f"silhouette by genome: {float(on_the_map):.2f} on the map, {float(everywhere):.2f} in all dimensions"
    for text in ("Windows of two genomes", silhouette, "PC1 (", "% of variance)", "ecoli (40)", "human (40)"):
        assert text in svg
    facts = json.loads(Image.open(tmp_path / "map.png").info["Description"])
    assert facts["options"]["color_by"] == "genome"
    assert facts["versions"].keys() >= {"dnalm", "python", "igraph"}
    assert str(tmp_path) not in json.dumps(facts)


@pytest.mark.slow
def test_settings_too_large_for_the_records_are_reduced_and_said(mapped: Mapped, tmp_path: Path) -> None:
    small = anndata.read_h5ad(EMBEDDINGS)[:10].copy()
    small.write_h5ad(tmp_path / "x")
    for method, sentence in (
        ("umap", "Neighbours reduced from 15 to 9, for want of records"),
        ("tsne", "Perplexity reduced from 30 to 3, for want of records"),
    ):
        table, _, said = mapped(tmp_path / "x", "--method", method)
        assert sentence in said
        assert np.isfinite(table[["x", "y"]].to_numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pca", "umap", "tsne"])
def test_three_records_have_a_map(mapped: Mapped, tmp_path: Path, method: str) -> None:
    anndata.read_h5ad(EMBEDDINGS)[:3].copy().write_h5ad(tmp_path / "x")
    table, _, _ = mapped(tmp_path / "x", "--method", method)
    assert len(table) == 3


def test_texts_of_a_table_hold_no_tab_and_no_line_end(mapped: Mapped, tmp_path: Path) -> None:
    data = anndata.read_h5ad(EMBEDDINGS)
    data.obs["a\tnote"] = ["two\nlines\tand a tab", *[None] * 79]
    data.write_h5ad(tmp_path / "x")
    table, _, _ = mapped(tmp_path / "x")
    assert table["a note"].tolist() == ["two lines and a tab", *[""] * 79]


@pytest.mark.slow
def test_a_wide_table_is_cut_and_says_so(mapped: Mapped, tmp_path: Path) -> None:
    data = anndata.read_h5ad(EMBEDDINGS)
    data.obs = pd.concat(
        [data.obs, pd.DataFrame({f"c{n}": ["v"] * 80 for n in range(120)}, index=data.obs.index)], axis=1
    )
    data.write_h5ad(tmp_path / "x")
    table, _, said = mapped(tmp_path / "x", "--color-by", "c119")
    assert table.shape == (80, projection.MOST_COLUMNS)
    assert table.columns[3] == "c119"
    assert f"Columns left out of the table, which holds 100: {3 + len(data.obs.columns) - 100}" in said


@pytest.mark.slow
def test_a_map_needs_no_model_and_pca_no_umap(tmp_path: Path) -> None:
    """The tool's own requirements have no torch, and no more is loaded than a method needs."""
    absent = {"torch", "transformers", "tokenizers", "safetensors", "Bio", "igraph", "matplotlib.pyplot"}
    code = "import sys, dnalm_project as tool; tool.main(tool.parser().parse_args(sys.argv[1:]))\n"
    code += f"assert not {absent} & sys.modules.keys()"
    arguments = ["--embeddings", EMBEDDINGS, "--output", tmp_path / "map.png"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY / "scripts",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_kmer_map_of_two_genomes_sets_them_apart(run_tool: Run, tmp_path: Path) -> None:
    """Real sequence through both tools: composition alone tells E. coli from human."""
    embeddings, statistics = tmp_path / "kmers.h5ad", tmp_path / "statistics.tsv"
    sequences = TEST_DATA / "two_genomes.fasta"
    assert run_tool("embed", "--sequences", sequences, "--representation", "kmer", "--output", embeddings)[0] == 0
    code, _, _ = run_tool(
        "project",
        *("--embeddings", embeddings, "--metadata", TEST_DATA / "two_genomes_metadata.tsv", "--color-by", "genome"),
        *("--output", tmp_path / "map.png", "--table", tmp_path / "map.tsv", "--statistics", statistics),
    )
    assert code == 0
    found = dict(line.split("\t") for line in statistics.read_text().splitlines())
    assert float(found["silhouette_map"]) >= 0.3
