"""Train the demo segmenter: which bases of E. coli, and of the human mitochondrion, are coding, rRNA or tRNA.

    python tests/make_segmenter.py --ecoli ecoli.fa.gz --annotation ecoli.gtf --output test-data/segmenter.safetensors

The sequence is the start of E. coli NZ_CP027599.1 as far as its annotation (RefSeq GCF_003018455.1) reaches, and the
mitochondrion of test-data. The backbone is a Nucleotide Transformer v2 of 3-mers with random weights, which learns with
the head. Validation and test are blocks of neighbours with gaps around them; `--metrics make_segmenter.tsv` is kept beside
this script. Both blocks lie on the chromosome, where one tRNA and no rRNA is in each: what is held out says something of
coding sequence alone.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools" / "scripts"))

import dnalm_finetune_segments
import torch
from dnalm.entry_point import run
from dnalm.formats.annotations import read_annotation
from dnalm.formats.fasta import FastaReader
from dnalm.models.model_file import write_model_file
from dnalm.models.registry import new_language_model, published_tensors

TEST_DATA = Path(__file__).parent.parent / "test-data"
ANNOTATED = 306_583  # bases of the chromosome that the annotation reaches
OPTIONS = (
    *("--window", "1200", "--loss", "plain", "--epochs", "60", "--patience", "0", "--learning-rate", "0.001"),
    *("--batch-size", "8", "--weight-decay", "0.1", "--seed", "1", "--name", "dnalm-demo-segmenter"),
    *("--features", "CDS,rRNA,tRNA"),
)
BACKBONE = {
    "add_bias_fnn": False,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 402,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "position_embedding_type": "rotary",
    "tie_word_embeddings": False,
    "token_dropout": False,
}


def main() -> int:
    """Write genome, annotation and backbone into a folder, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("ecoli", "annotation", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_genome(folder / "genome.fasta", arguments.ecoli)
        write_annotation(folder / "features.bed", arguments.annotation)
        write_backbone(folder / "backbone.safetensors")
        inputs = ["--genome", "genome.fasta", "--annotation", "features.bed", "--model", "backbone.safetensors"]
        words = [word if word.startswith("--") else str(folder / word) for word in inputs]
        words += [*OPTIONS, "--output", str(arguments.output), *more]
        return run(dnalm_finetune_segments.parser(), dnalm_finetune_segments.main, words)


def write_genome(path: Path, ecoli: Path) -> None:
    """Write both sequences, the chromosome as far as it is annotated."""
    with FastaReader(ecoli) as reader, FastaReader(TEST_DATA / "human_mitochondrion.fasta") as other:
        (chromosome,), (mitochondrion,) = reader, other
    sequences = {chromosome.id: chromosome.bases[:ANNOTATED], mitochondrion.id: mitochondrion.bases}
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in sequences.items()))


def write_annotation(path: Path, annotation: Path) -> None:
    """Write the features of both."""
    found = read_annotation(annotation, ["CDS", "tRNA", "rRNA"]).spans["NZ_CP027599.1"]
    lines = [
        f"NZ_CP027599.1\t{start}\t{end}\t{name}\n"
        for name, spans in sorted(found.items())
        for start, end in spans.tolist()
        if end <= ANNOTATED
    ]
    path.write_text("".join(lines) + (TEST_DATA / "mitochondrial_features.bed").read_text())


def write_backbone(path: Path) -> None:
    """Write a random Nucleotide Transformer v2 of 3-mers."""
    kmers = ["".join(kmer) for kmer in itertools.product("ATCG", repeat=3)]
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", *kmers, *"ATCG", "N"]
    tokenizer = {"vocab.txt": "\n".join(vocabulary), "tokenizer_config.json": {"eos_token": None}}
    torch.manual_seed(0)
    model = new_language_model(BACKBONE, tokenizer, "dnalm-random-3-mers", causal=False)
    with tempfile.TemporaryDirectory() as folder:
        tensors = published_tensors(model, Path(folder))
        write_model_file(path, tensors, model.stored.config, tokenizer, name=model.stored.name, licence="MIT")


if __name__ == "__main__":
    sys.exit(main())
