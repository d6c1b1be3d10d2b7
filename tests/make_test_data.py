"""Make test-data/: cuts of public genomes, a tiny random model, its embeddings, and a protein that no tool may take.

The genomes are given as files: the human mitochondrion (rCRS), the start of E. coli NZ_CP027599.1, and the first
million bases of human chr1 (GRCh38). The sequences are public facts; each file is under 500 kB.

    python tests/make_test_data.py --mitochondrion chrM.fa --ecoli ecoli.fa.gz --human chr1.fa.gz --output test-data
"""

import argparse
import contextlib
import gzip
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyBigWig
import pysam
import torch
import transformers
from sklearn.linear_model import LogisticRegression, Ridge
from transformers import EsmConfig, EsmForMaskedLM

sys.path.insert(0, str(Path(__file__).parent.parent / "tools" / "scripts"))

import dnalm_embed
import dnalm_finetune
import dnalm_pretrain
import dnalm_split
from dnalm.engine import training
from dnalm.engine.devices import prepare_machine
from dnalm.engine.representations import ModelChoices, ModelRepresentation
from dnalm.formats.bigwig import BigWigWriter, Chromosomes
from dnalm.formats.fasta import FastaReader
from dnalm.models import nucleotide_transformer_v2
from dnalm.models.head_config import HeadFacts
from dnalm.models.heads import Classifier, PooledClassifier, new_classifier, write_classifier
from dnalm.models.model_file import write_model_file, write_safetensors
from dnalm.models.sources import open_model
from dnalm.models.unet_head import SegmentationHead

WIDTH = 80  # bases a line
CUTS = {"ecoli": (100_000, 220_000), "human": (600_000, 720_000)}  # 0-based half-open
SOURCES = {"ecoli": "NZ_CP027599.1", "human": "chr1"}
WINDOWS, WINDOW = 40, 600
# Known variants of the mitochondrion by position on rCRS: https://www.mitomap.org (Lott et al. 2013,
# doi:10.1002/0471250953.bi0123s44).
SUBSTITUTIONS = {
    "pathogenic": {
        "MT-RNR1": ["1494C>T", "1555A>G"],
        "MT-TL1": ["3243A>G", "3271T>C"],
        "MT-ND1": ["3460G>A"],
        "MT-TK": ["8344A>G", "8356T>C"],
        "MT-ATP6": ["8993T>G,C", "9176T>C"],
        "MT-ND3": ["10191T>C"],
        "MT-ND4": ["11778G>A"],
        "MT-ND5": ["13513G>A"],
        "MT-ND6": ["14459G>A", "14484T>C"],
        "MT-TE": ["14709T>C"],
    },
    "common": {
        "MT-CR": ["73A>G", "263A>G", "16223C>T", "16519T>C"],
        "MT-RNR1": ["750A>G", "1438A>G"],
        "MT-RNR2": ["2706A>G"],
        "MT-ND2": ["4769A>G"],
        "MT-CO1": ["7028C>T"],
        "MT-ATP6": ["8860A>G"],
        "MT-ND3": ["10398A>G"],
        "MT-ND4": ["11719G>A"],
        "MT-ND5": ["12705C>T"],
        "MT-CYB": ["14766C>T", "15326A>G"],
    },
}
# Name → class, gene, first and last base that go (1-based; last before first: none goes), and what comes.
INDELS = {
    "m.315.1C": ("common", "MT-CR", 316, 315, "C"),
    "m.523_524del": ("common", "MT-CR", 523, 524, ""),
    "m.8281_8289del": ("common", "MT-NC7", 8281, 8289, ""),
}
COMMON_DELETION = (8470, 13446)  # of 4,977 bases, in Kearns-Sayre syndrome
VCF_HEADER = """##fileformat=VCFv4.2
##reference=NC_012920.1
##contig=<ID=human_mitochondrion,length=16569>
##ALT=<ID=DEL,Description="Deletion">
##INFO=<ID=CLASS,Number=1,Type=String,Description="pathogenic, or common in healthy people">
##INFO=<ID=GENE,Number=1,Type=String,Description="Gene, or MT-CR for the control region">
##INFO=<ID=END,Number=1,Type=Integer,Description="Last base of a symbolic allele">
#CHROM	POS	ID	REF	ALT	QUAL	FILTER	INFO
"""
# Exon 11 of CFTR around F508, a silent change, and the deletion of cystic fibrosis.
CFTR = {
    "wild_type": "ATTAAAGAAAATATCATCTTTGGTGTTTCCTAT",
    "silent": "ATAAAAGAAAATATCATCTTTGGTGTTTCCTAT",
    "delta_F508": "ATTAAAGAAAATATCATTGGTGTTTCCTAT",
}
TRANSFER_RNA = (3_229, 3_304)  # MT-TL1, 0-based half-open
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
    write_variants(output, genomes["mitochondrion"])
    write_checkpoint(output)
    write_published_model(output / "published_model")
    write_embeddings(output)
    write_scores(output)
    write_shards(output, genomes["mitochondrion"])
    write_classifier_of_genomes(output, genomes)
    write_regressor_of_gc(output, genomes)
    write_features(output)
    write_labels(output)
    write_finetuning_checkpoint(output)


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


def write_variants(folder: Path, genome: str) -> None:
    """Write the mitochondrion's known variants, sorted, each REF checked; the bases of a tRNA; and CFTR's pairs."""
    records = []
    for kind, genes in SUBSTITUTIONS.items():
        for gene, changes in genes.items():
            for change in changes:
                place, alternatives = change.split(">")
                position, reference = int(place[:-1]), place[-1]
                assert genome[position - 1] == reference, change
                name = ";".join(f"m.{place}>{letter}" for letter in alternatives.split(","))
                records.append((position, name, reference, alternatives, f"CLASS={kind};GENE={gene}"))
    for name, (kind, gene, first, last, inserted) in INDELS.items():
        records.append((*_left_aligned(genome, first, last, inserted, name), f"CLASS={kind};GENE={gene}"))
    first, last = COMMON_DELETION
    told = f"CLASS=pathogenic;GENE=.;END={last}"
    records.append((first - 1, "common_deletion", genome[first - 2], "<DEL>", told))
    lines = [
        f"human_mitochondrion\t{position}\t{name}\t{reference}\t{alternative}\t.\t.\t{info}\n"
        for position, name, reference, alternative, info in sorted(records)
    ]
    (folder / "mitochondrial_variants.vcf").write_text(VCF_HEADER + "".join(lines))
    for kind in SUBSTITUTIONS:
        (folder / f"{kind}_variants.vcf").write_text(
            VCF_HEADER + "".join(line for line in lines if f"={kind};" in line)
        )
    unsorted = [line for line in lines if line.split("\t")[2] in ("m.73A>G", "m.3243A>G", "m.8344A>G", "m.315.1C")]
    (folder / "unsorted_variants.vcf").write_text(VCF_HEADER + "".join(unsorted[::-1]))
    start, end = TRANSFER_RNA
    (folder / "transfer_rna.bed").write_text(f"human_mitochondrion\t{start}\t{end}\tMT-TL1\t0\t+\n")
    changed = [name for name in CFTR if name != "wild_type"]
    (folder / "cftr_reference.fasta").write_text("".join(_fasta("wild_type", CFTR["wild_type"]) for _ in changed))
    (folder / "cftr_alternative.fasta").write_text("".join(_fasta(name, CFTR[name]) for name in changed))


def _left_aligned(genome: str, first: int, last: int, inserted: str, name: str) -> tuple[int, str, str, str]:
    """Return an insertion or deletion as VCF has it: POS, ID, REF, ALT, as far left as it can stand."""
    gone = genome[first - 1 : last]
    while genome[first - 2] == (gone or inserted)[-1]:
        first -= 1
        gone = (genome[first - 1] + gone)[: len(gone)]
        inserted = (genome[first - 1] + inserted)[: len(inserted)]
    before = genome[first - 2]
    return first - 1, name, before + gone, before + inserted


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
    with _stopping_at_the_first_checkpoint():
        dnalm_pretrain.main(arguments)
    (folder / "unused.safetensors").unlink()


@contextlib.contextmanager
def _stopping_at_the_first_checkpoint() -> Iterator[None]:
    usual = training.ModelTrainer._save_checkpoint

    def stop_after_it(trainer: Any, *given: Any) -> None:
        usual(trainer, *given)
        trainer.control.should_training_stop = True

    training.ModelTrainer._save_checkpoint = stop_after_it  # type: ignore[assignment, method-assign]
    yield
    training.ModelTrainer._save_checkpoint = usual  # type: ignore[method-assign]


def write_labels(folder: Path) -> None:
    """Write what is known of the windows, as labels of every kind: classes, several at once, groups, sides, quantities."""
    with FastaReader(folder / "two_genomes.fasta") as reader:
        records = list(reader)
    rows = []
    for number, record in enumerate(records):
        genome = record.id.split("_")[0]
        features = [
            name for name, word in (("cpg", "CGCG"), ("tata", "TATAA"), ("poly_a", "AAAAA")) if word in record.bases
        ]
        side = "test" if number % 4 == 3 else "train"
        rows.append((record.id, genome, f"{genome}_{number // 8}", _gc_content(record.bases), side, ";".join(features)))
    header = "id\tlabel\tblock\tgc\tside\tfeatures\n"
    (folder / "two_genomes_labels.tsv").write_text(header + "".join("\t".join(row) + "\n" for row in rows))
    for genome in CUTS:
        windows = [record for record in records if record.id.startswith(genome)]
        (folder / f"{genome}_windows.fasta").write_text(
            "".join(_fasta(record.id, record.bases[:300]) for record in windows)
        )


def write_finetuning_checkpoint(folder: Path) -> None:
    """Write the checkpoint of a fine-tuning by LoRA that was to have 8 steps and ended after 4."""
    data = ["--sequences", folder / "two_genomes.fasta", "--labels", folder / "two_genomes_labels.tsv"]
    data += ["--model", folder / "checkpoint.safetensors", "--method", "lora", "--baselines", "none", "--time-limit", 6]
    outputs = ["--output", folder / "unused.safetensors", "--checkpoint", folder / "finetuning_checkpoint.safetensors"]
    options = [*data, "--max-steps", 8, "--evaluate-every", 4, "--threads", 1, *outputs]
    with _stopping_at_the_first_checkpoint():
        dnalm_finetune.main(dnalm_finetune.parser().parse_args(list(map(str, options))))
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


def write_features(folder: Path) -> None:
    """Write the mitochondrion's features, and calls and tracks that resemble them: shifted, and with noise."""
    features = [(first - 1, last, name, strand) for name, first, last, strand in MITOCHONDRIAL_FEATURES]
    contig, length = "human_mitochondrion", 16_569
    lines = [f"{contig}\t{start}\t{end}\t{name}\t0\t{strand}\n" for start, end, name, strand in features]
    (folder / "mitochondrial_features.bed").write_text("".join(lines))
    generator = np.random.default_rng(0)
    called = [
        (max(0, start + int(generator.integers(-9, 10))), end + int(generator.integers(-9, 10)), name)
        for start, end, name, _ in features
        if generator.random() < 0.8
    ]
    (folder / "feature_names.tsv").write_text("feature\tannotation\nCDS\tCDS\ntRNA\ttRNA\n")
    lines = [f"{contig}\t{start}\t{end}\t{name}\n" for start, end, name in sorted(called)]
    (folder / "mitochondrial_calls.bed").write_text("".join(lines))
    (folder / "tracks").mkdir(exist_ok=True)
    for feature in ("CDS", "tRNA"):
        inside = np.zeros(length)
        for start, end, name, _ in features:
            inside[start:end] = np.maximum(inside[start:end], name == feature)
        smooth = np.convolve(inside, np.ones(51) / 51, "same") * 0.6 + 0.3 * generator.random(length)
        with pyBigWig.open(str(folder / "tracks" / f"{feature}.bw"), "w") as track:
            track.addHeader([(contig, length)])
            track.addEntries(contig, 0, values=np.round(smooth, 2), span=1, step=1)


# Of NC_012920.1: feature, first and last base counted from 1, strand.
MITOCHONDRIAL_FEATURES = (
    ("tRNA", 577, 647, "+"),
    ("rRNA", 648, 1_601, "+"),
    ("tRNA", 1_602, 1_670, "+"),
    ("rRNA", 1_671, 3_229, "+"),
    ("tRNA", 3_230, 3_304, "+"),
    ("CDS", 3_307, 4_262, "+"),
    ("tRNA", 4_263, 4_331, "+"),
    ("tRNA", 4_329, 4_400, "-"),
    ("tRNA", 4_402, 4_469, "+"),
    ("CDS", 4_470, 5_511, "+"),
    ("tRNA", 5_512, 5_579, "+"),
    ("tRNA", 5_587, 5_655, "-"),
    ("tRNA", 5_657, 5_729, "-"),
    ("tRNA", 5_761, 5_826, "-"),
    ("tRNA", 5_826, 5_891, "-"),
    ("CDS", 5_904, 7_445, "+"),
    ("tRNA", 7_446, 7_514, "-"),
    ("tRNA", 7_518, 7_585, "+"),
    ("CDS", 7_586, 8_269, "+"),
    ("tRNA", 8_295, 8_364, "+"),
    ("CDS", 8_366, 8_572, "+"),
    ("CDS", 8_527, 9_207, "+"),
    ("CDS", 9_207, 9_990, "+"),
    ("tRNA", 9_991, 10_058, "+"),
    ("CDS", 10_059, 10_404, "+"),
    ("tRNA", 10_405, 10_469, "+"),
    ("CDS", 10_470, 10_766, "+"),
    ("CDS", 10_760, 12_137, "+"),
    ("tRNA", 12_138, 12_206, "+"),
    ("tRNA", 12_207, 12_265, "+"),
    ("tRNA", 12_266, 12_336, "+"),
    ("CDS", 12_337, 14_148, "+"),
    ("CDS", 14_149, 14_673, "-"),
    ("tRNA", 14_674, 14_742, "-"),
    ("CDS", 14_747, 15_887, "+"),
    ("tRNA", 15_888, 15_953, "+"),
    ("tRNA", 15_956, 16_023, "-"),
)


def write_embeddings(folder: Path) -> None:
    """Write the demo model's embeddings of the windows in every format, and what is known of the windows."""
    sequences, model = folder / "two_genomes.fasta", folder / "random_model.safetensors"
    embeddings = folder / "two_genomes_embeddings.h5ad"
    for suffix in ("h5ad", "npz"):
        options = ["--sequences", sequences, "--model", model, "--output", embeddings.with_suffix(f".{suffix}")]
        arguments = [*map(str, options), "--output-format", suffix, "--threads", "1"]
        dnalm_embed.main(dnalm_embed.parser().parse_args(arguments))
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


def write_classifier_of_genomes(folder: Path, genomes: dict[str, str]) -> None:
    """Write the random model with a head that tells E. coli from human, learnt beside the windows of `two_genomes`."""
    labels = tuple(CUTS)
    windows = [
        (number, bases) for number, name in enumerate(labels) for bases in _training_windows(name, genomes[name])
    ]
    probe = LogisticRegression(max_iter=1_000)
    facts = HeadFacts("classify", labels)
    classifier = new_classifier(open_model(folder / "random_model.safetensors"), facts, seed=0)
    probe.fit(_vectors(classifier, [bases for _, bases in windows]), [number for number, _ in windows])
    # Two classes need one number: the other's is its negative.
    weight, bias = 0.5 * probe.coef_[0], 0.5 * probe.intercept_[0]
    _write_head(folder / "classifier.safetensors", classifier, [-weight, weight], [-bias, bias])


def write_regressor_of_gc(folder: Path, genomes: dict[str, str]) -> None:
    """Write the model as authors publish it with a head that tells the share of G and C."""
    windows = [bases for name in CUTS for bases in _training_windows(name, genomes[name])]
    shares = np.array([(bases.count("G") + bases.count("C")) / len(bases) for bases in windows])
    mean, scale = float(f"{shares.mean():.6g}"), float(f"{shares.std():.6g}")
    facts = HeadFacts("regress", ("gc",), target_mean=(mean,), target_scale=(scale,))
    classifier = new_classifier(open_model(folder / "published_model"), facts, seed=0)
    probe = Ridge(alpha=0.01).fit(_vectors(classifier, windows), (shares - mean) / scale)
    _write_head(folder / "regressor.safetensors", classifier, [probe.coef_], [probe.intercept_])


def _training_windows(name: str, genome: str) -> list[str]:
    start, end = CUTS[name]
    step = (end - start) // WINDOWS
    return [genome[first + WINDOW * part :][:WINDOW] for first in range(start, end, step) for part in (2, 3)]


def _vectors(classifier: Classifier, sequences: list[str]) -> np.ndarray:
    representation = ModelRepresentation(classifier.model, ModelChoices(), prepare_machine("cpu", 1, None))
    return np.stack([found.vectors for found in representation.embed(sequences, sequences)])


def _write_head(path: Path, classifier: Classifier, weight: Any, bias: Any) -> None:
    tensors = {"weight": torch.tensor(np.array(weight)).float(), "bias": torch.tensor(np.array(bias)).float()}
    assert isinstance(classifier.module, PooledClassifier)
    classifier.module.classifier.load_state_dict(tensors)
    with tempfile.TemporaryDirectory() as folder:
        write_classifier(
            path,
            replace(
                classifier, model=replace(classifier.model, stored=replace(classifier.model.stored, licence="MIT"))
            ),
            Path(folder),
            name=f"dnalm-{path.stem}",
            provenance={"made by": "tests/make_test_data.py"},
            same_backbone=True,
        )


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


def write_shards(folder: Path, genome: str) -> None:
    """Write shards of every kind that is merged, two each, and variants to split; the embeddings are real, in two jobs."""
    shards = folder / "shards"
    shards.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as pieces:
        options = ["--sequences", folder / "two_genomes.fasta", "--shards", 2, "--output-directory", f"{pieces}/split"]
        dnalm_split.main(dnalm_split.parser().parse_args([*map(str, options)]))
        for number in (1, 2):
            for suffix in ("h5ad", "parquet"):
                options = ["--sequences", f"{pieces}/split/shard_{number}.fasta", "--threads", 1]
                options += ["--model", folder / "random_model.safetensors", "--output-format", suffix]
                options += ["--output", shards / f"embeddings_{number}.{suffix}"]
                options += ["--summary", shards / f"summary_{number}.tsv"]
                dnalm_embed.main(dnalm_embed.parser().parse_args([*map(str, options)]))
    pysam.faidx("--fai-idx", str(shards / "genome.fai"), str(folder / "human_mitochondrion.fasta"))
    header = f"##fileformat=VCFv4.2\n##contig=<ID=human_mitochondrion,length={len(genome)}>\n"
    header += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
    others = {"A": "G", "C": "T,A", "G": "A", "T": "C"}
    records = [
        f"human_mitochondrion\t{position}\t.\t{genome[position - 1]}\t{others[genome[position - 1]]}\t.\t.\t."
        for position in range(200, 2_200, 200)
    ]
    (shards / "variants.vcf").write_text("\n".join([header, *records]) + "\n")
    fields = '##INFO=<ID=LLR,Number=A,Type=Float,Description="Log-likelihood ratio">'
    lengths = {"human_mitochondrion": len(genome)}
    for number, part in enumerate((records[:6], records[6:]), start=1):
        run = {"tool": "dnalm_score_variants", "options": {"score": "llr"}, "counts": {"records": len(part)}}
        meta, contig, names = header.split("\n")
        lines = [meta, contig, fields, f"##dnalm={json.dumps(run, sort_keys=True)}", names]
        lines += [record[:-1] + f"LLR={-0.1 * place:.4g}" for place, record in enumerate(part, start=1)]
        with closing(pysam.BGZFile(str(shards / f"variants_{number}.vcf.gz"), "wb", None)) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
        start = 8_000 * (number - 1)
        regions = "".join(f"human_mitochondrion\t{start + 900 * n}\t{start + 900 * n + 350}\n" for n in range(5))
        (shards / f"calls_{number}.bed").write_text(regions)
        with BigWigWriter(shards / f"track_{number}.bw", Chromosomes(lengths)) as track:
            track.append("human_mitochondrion", start, np.linspace(0, number, 8_000, dtype=np.float32).round(3))
            track.finish()


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
