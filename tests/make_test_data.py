"""Make test-data/: cuts of public genomes, a tiny random model, its embeddings, and a protein that no tool may take.

The genomes are given as files: the human mitochondrion (rCRS), the start of E. coli NZ_CP027599.1, and the first
million bases of human chr1 (GRCh38). The sequences are public facts; each file is under 500 kB.

    python tests/make_test_data.py --mitochondrion chrM.fa --ecoli ecoli.fa.gz --human chr1.fa.gz --output test-data
"""

import argparse
import gzip
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch
import transformers
from transformers import EsmConfig, EsmForMaskedLM

sys.path.insert(0, str(Path(__file__).parent.parent / "tools" / "scripts"))

import dnalm_embed
import dnalm_pretrain
from dnalm.engine import training
from dnalm.formats.fasta import FastaReader
from dnalm.models import nucleotide_transformer_v2
from dnalm.models.model_file import write_model_file, write_safetensors
from dnalm.models.sources import open_model
from dnalm.models.unet_head import SegmentationHead

WIDTH = 80  # bases a line
CUTS = {"ecoli": (100_000, 220_000), "human": (600_000, 720_000)}  # 0-based half-open
SOURCES = {"ecoli": "NZ_CP027599.1", "human": "chr1"}
WINDOWS, WINDOW = 40, 600
PEPTIDE = "MAKELFINGPEPTIDESTANDSFARAWAYFRQMDNA"  # no protein of nature


def main() -> None:
    """Write every file."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("mitochondrion", "ecoli", "human", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    genomes = {name: _only_sequence(getattr(arguments, name)) for name in ("mitochondrion", "ecoli", "human")}
    output = arguments.output
    output.mkdir(exist_ok=True)
    header = "human_mitochondrion NC_012920.1:1-16569 Homo sapiens mitochondrion, revised Cambridge Reference Sequence"
    (output / "human_mitochondrion.fasta").write_text(_fasta(header, genomes["mitochondrion"]))
    windows = []
    for name, (start, end) in CUTS.items():
        region = f"{SOURCES[name]}:{start + 1}-{end}"
        species = {"ecoli": "Escherichia coli 97-3250", "human": "Homo sapiens GRCh38"}[name]
        cut = _fasta(f"{name} {region} {species}, 1-based inclusive", genomes[name][start:end])
        (output / f"{name}.fasta.gz").write_bytes(gzip.compress(cut.encode(), 9, mtime=0))
        for first in range(start, end, (end - start) // WINDOWS):
            window = f"{SOURCES[name]}:{first + 1}-{first + WINDOW}"
            windows.append(_fasta(f"{name}_{first + 1} {window}", genomes[name][first : first + WINDOW]))
    (output / "two_genomes.fasta").write_text("".join(windows))
    (output / "protein.fasta").write_text(_fasta("peptide", PEPTIDE))
    write_random_model(output / "random_model.safetensors")
    write_sequence_table(output / "sequences.csv", genomes["mitochondrion"])
    write_checkpoint(output)
    write_published_model(output / "published_model")
    write_embeddings(output)
    write_scores(output)
    write_random_segmenter(output / "segmenter.safetensors")


def write_random_model(path: Path) -> None:
    """Write a random masked language model of 3-mers: ESM, 2 layers, hidden size 64, context 1,024 tokens."""
    letters = "ATCG"  # the order of the Nucleotide Transformer's vocabularies
    kmers = ["".join(kmer) for kmer in itertools.product(letters, repeat=3)]
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", *kmers, *letters, "N"]
    config = EsmConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=1_026,
        position_embedding_type="rotary",
        pad_token_id=1,
        mask_token_id=2,
        eos_token_id=None,
        token_dropout=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,  # wide enough for attention to matter without training
    )
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        EsmForMaskedLM(config).save_pretrained(folder)
        stored = open_model(Path(folder))
        tokenizer = {
            "vocab.txt": "\n".join(vocabulary),
            "tokenizer_config.json": {"eos_token": None, "model_max_length": 1_024, "tokenizer_class": "EsmTokenizer"},
        }
        write_model_file(
            path,
            stored.read_tensors(),
            stored.config,
            tokenizer,
            name="dnalm-random",
            licence="MIT",
            provenance={"made by": "tests/make_test_data.py", "weights": "random, seed 0"},
        )


def write_sequence_table(path: Path, genome: str) -> None:
    """Write 60 neighbours of 200 bases as a table, in the layout of a tutorial on language models."""
    rows = [f"{genome[start : start + 200]}" for start in range(0, 12_000, 200)]
    path.write_text("text\n" + "".join(f"{row}\n" for row in rows))


def write_checkpoint(folder: Path) -> None:
    """Write the checkpoint of a tiny model's pretraining that was to have 8 steps and ended after 4."""
    config = {
        "model_type": "llama",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 1_024,
        "tie_word_embeddings": True,
    }
    (folder / "tiny_llama.json").write_text(json.dumps(config, indent=2) + "\n")
    options = ["--sequences", folder / "human_mitochondrion.fasta", "--model-config", folder / "tiny_llama.json"]
    options += ["--max-steps", 8, "--evaluate-every", 4, "--threads", 1, "--output", folder / "unused.safetensors"]
    arguments = dnalm_pretrain.parser().parse_args(
        [*map(str, options), "--checkpoint", str(folder / "checkpoint.safetensors")]
    )
    usual = training.ModelTrainer._save_checkpoint

    def stop_after_it(trainer: Any, *given: Any) -> None:
        usual(trainer, *given)
        trainer.control.should_training_stop = True

    training.ModelTrainer._save_checkpoint = stop_after_it  # type: ignore[assignment, method-assign]
    dnalm_pretrain.pretrain(arguments)
    (folder / "unused.safetensors").unlink()


def write_published_model(folder: Path) -> None:
    """Write the files of a model as its authors publish it: random Nucleotide Transformer v2 of 3-mers."""
    folder.mkdir(exist_ok=True)
    letters = "ATCG"
    kmers = ["".join(kmer) for kmer in itertools.product(letters, repeat=3)]
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", *kmers, *letters, "N"]
    config = {
        "add_bias_fnn": False,
        "architectures": ["EsmForMaskedLM"],
        "auto_map": {"AutoModelForMaskedLM": "modeling_esm.EsmForMaskedLM"},
        "hidden_size": 32,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-12,
        "mask_token_id": 2,
        "max_position_embeddings": 258,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": 1,
        "position_embedding_type": "rotary",
        "tie_word_embeddings": False,
        "token_dropout": False,
        "vocab_size": len(vocabulary),
    }
    tokenizer_config = {"eos_token": None, "model_max_length": 256, "tokenizer_class": "EsmTokenizer"}
    for name, content in (("config", config), ("tokenizer_config", tokenizer_config)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    (folder / "features.txt").write_text("exon\nintron\n")
    generator = torch.Generator().manual_seed(0)
    sizes = nucleotide_transformer_v2.Sizes(len(vocabulary), 32, 2, 4, 64, 1e-12)
    shapes = nucleotide_transformer_v2.MaskedLanguageModel(sizes).state_dict()
    weights = {name: 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in sorted(shapes.items())}
    write_safetensors(folder / "model.safetensors", weights, {"format": "pt"})


def write_random_segmenter(path: Path) -> None:
    """Write a random SegmentNT of 3-mers that is to find the mitochondrion's genes: 2 layers, windows of 1,200 bases."""
    kmers = ["".join(kmer) for kmer in itertools.product("ATCG", repeat=3)]
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", *kmers, *"ATCG", "N"]
    config = {
        "add_bias_fnn": False,
        "features": ["CDS", "rRNA", "tRNA"],
        "hidden_size": 32,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 402,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": 1,
        "position_embedding_type": "rotary",
        "segment_window": 1_200,
        "tie_word_embeddings": False,
        "token_dropout": False,
        "vocab_size": len(vocabulary),
    }
    torch.manual_seed(0)
    sizes = nucleotide_transformer_v2.Sizes(len(vocabulary), 32, 2, 4, 64, 1e-12)
    parts: dict[str, Any] = {"esm.": nucleotide_transformer_v2.Backbone(sizes), "": SegmentationHead(32, 32, 3, 3)}
    parts[""].fc.weight.data *= 30  # wide enough for probabilities between 0 and 1 without training
    weights = {f"{name}{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    tokenizer = {"vocab.txt": "\n".join(vocabulary), "tokenizer_config.json": {"eos_token": None}}
    write_model_file(
        path,
        weights,
        config,
        tokenizer,
        name="dnalm-random-segmenter",
        licence="MIT",
        labels=config["features"],  # type: ignore[arg-type]
        provenance={"made by": "tests/make_test_data.py", "weights": "random, seed 0"},
    )


def write_embeddings(folder: Path) -> None:
    """Write the demo model's embeddings of the windows in every format, and what is known of the windows."""
    sequences, model = folder / "two_genomes.fasta", folder / "random_model.safetensors"
    embeddings = folder / "two_genomes_embeddings.h5ad"
    for suffix in ("h5ad", "npz"):
        options = ["--sequences", sequences, "--model", model, "--output", embeddings.with_suffix(f".{suffix}")]
        arguments = [*map(str, options), "--output-format", suffix, "--threads", "1"]
        dnalm_embed.embed(dnalm_embed.parser().parse_args(arguments))
    with FastaReader(sequences) as reader:
        windows = [(record.id, record.id.split("_")[0], record.bases) for record in reader]
    known = pd.DataFrame(
        [
            (name, genome, f"{(bases.count('G') + bases.count('C')) / len(bases):.4f}")
            for name, genome, bases in windows
        ],
        columns=["id", "genome", "gc"],
    )
    known.to_csv(folder / "two_genomes_metadata.tsv", sep="\t", index=False)
    data = anndata.read_h5ad(embeddings)
    table = pd.concat([known[["id", "genome"]], data.to_df().reset_index(drop=True)], axis=1)
    table.to_parquet(embeddings.with_suffix(".parquet"), index=False)
    table.to_csv(embeddings.with_suffix(".tsv"), sep="\t", index=False, float_format="%.6g")


def write_scores(folder: Path) -> None:
    """Write made-up scores of made-up variants: two tables that share ids, and one with groups, clusters and labels."""
    generator = np.random.default_rng(0)
    groups = ["missense"] * 60 + ["intron"] * 40 + ["splice site"] + ["synonymous"] * 19
    shift = pd.Series(groups).map({"missense": -1.5, "intron": 0.0, "splice site": -4.0, "synonymous": -0.3})
    effect = generator.normal(size=len(groups)) + shift
    alleles = [("A", "G"), ("C", "T"), ("G", "A"), ("T", "C")]
    table = pd.DataFrame(
        {
            "chrom": "chr1",
            "pos": np.sort(generator.integers(1, 100_000, len(groups))),
            "id": [f"variant_{number}" for number in range(1, len(groups) + 1)],
            "ref": [alleles[number % 4][0] for number in range(len(groups))],
            "alt": [alleles[number % 4][1] for number in range(len(groups))],
            "llr_masked": [f"{value:.4f}" for value in effect],
            "l2": [f"{abs(value) + 0.5:.4f}" for value in effect + generator.normal(size=len(groups)) / 2],
            "consequence": groups,
            "gene": [f"gene_{number}" for number in generator.permutation(len(groups)) % 12],
            "label": [
                "pathogenic" if value < -1 else "benign" for value in effect + generator.normal(size=len(groups))
            ],
            "status": "ok",
        }
    )
    table.to_csv(folder / "scores_groups.tsv", sep="\t", index=False)
    first = table.drop(columns=["consequence", "gene", "label"])
    second = first[:80].copy()
    second["llr_masked"] = [f"{float(value) / 2 + 0.4:.4f}" for value in second["llr_masked"]]
    second["l2"] = [f"{float(value) * 0.8:.4f}" for value in second["l2"]]
    first.loc[[3, 17], ["llr_masked", "status"]] = ["", "tokenization_differs"]
    first.loc[40, "llr_masked"] = "failed"
    first.to_csv(folder / "scores_first.tsv", sep="\t", index=False)
    second.to_csv(folder / "scores_second.tsv", sep="\t", index=False)


def _gc_content(bases: str) -> str:
    return f"{(bases.count('G') + bases.count('C')) / len(bases):.4f}"


def _only_sequence(path: Path) -> str:
    with FastaReader(path) as reader:
        (record,) = reader
    return record.bases


def _fasta(header: str, sequence: str) -> str:
    lines = (sequence[start : start + WIDTH] for start in range(0, len(sequence), WIDTH))
    return f">{header}\n" + "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
