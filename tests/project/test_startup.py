"""What jobs do not import: a model's libraries without a model, transformers for architectures of our own."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, TEST_DATA

# Runs the commands one after the other in one process; after each, none of the first word's modules may be there.
RUN = """
import importlib, shlex, sys
from dnalm.entry_point import run
absent = set(sys.argv[1].split(","))
for command in sys.argv[2:]:
    script, *options = shlex.split(command)
    tool = importlib.import_module(script)
    assert run(tool.parser(), tool.main, options) == 0, command
    assert not absent & sys.modules.keys(), (command, sorted(absent & sys.modules.keys()))
"""
WINDOWS = f"--sequences {TEST_DATA}/two_genomes.fasta"
FEATURES = f"--annotation {TEST_DATA}/mitochondrial_features.bed"
WITHOUT_MODEL = (
    f"dnalm_embed {WINDOWS} --representation kmer --output kmers.h5ad",
    f"dnalm_embed {WINDOWS} --representation onehot --pooling none --output letters.npz --output-format npz",
    f"dnalm_split {WINDOWS} --shards 2 --output-directory shards",
    f"dnalm_merge --shards {TEST_DATA}/shards/embeddings_1.h5ad --output merged.h5ad",
    f"dnalm_train_tokenizer {WINDOWS} --kind bpe --vocabulary-size 64 --output tokenizer.json",
    f"dnalm_evaluate_segments --tracks {TEST_DATA}/tracks/CDS.bw {FEATURES} --output metrics.tsv --figure metrics.png",
    f"dnalm_compare_scores --tables {TEST_DATA}/scores_groups.tsv --group-column consequence --output groups.png",
    f"dnalm_project --embeddings {TEST_DATA}/two_genomes_embeddings.h5ad --method umap --output map.png",
)
SEGMENTER = f"--model {TEST_DATA}/segmenter.safetensors"
MODELS_OF_OUR_OWN = (
    f"dnalm_embed {WINDOWS} {SEGMENTER} --output embeddings.h5ad",
    f"dnalm_segment --sequences {TEST_DATA}/human_mitochondrion.fasta {SEGMENTER} --calls segments.bed",
    f"dnalm_score_variants --variants {TEST_DATA}/mitochondrial_variants.vcf --output-table scores.tsv "
    f"--reference {TEST_DATA}/human_mitochondrion.fasta --model {TEST_DATA}/planted_model.safetensors",
    f"dnalm_embed_cells --cells {TEST_DATA}/cells.h5ad --model {TEST_DATA}/scgpt.safetensors --output cells.h5ad",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("absent", "commands"),
    [("torch,transformers,numba", WITHOUT_MODEL), ("transformers,torch._dynamo,sympy", MODELS_OF_OUR_OWN)],
    ids=["without a model", "architectures of our own"],
)
def test_a_job_imports_no_more_than_it_needs(tmp_path: Path, absent: str, commands: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, absent, *commands],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY / "scripts"), "GALAXY_SLOTS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
