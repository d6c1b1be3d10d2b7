"""Pretrain the tiny model of the planted-order task, which has seen the motifs and not what decides.

    python tests/make_planted_model.py --output test-data/planted_model.safetensors --table test-data/planted_order.tsv

A Nucleotide Transformer v2 of 0.09 million parameters and single letters learns 4,000 sequences of its own, without their
labels (three minutes of a processor). The table has 1,500 others with labels.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools" / "scripts"))

import dnalm_pretrain
from dnalm.entry_point import run
from dnalm.models.vocabularies import all_kmers
from planted_order import LENGTH, planted_order

CONFIG = {
    "add_bias_fnn": False,
    "emb_layer_norm_before": False,
    "hidden_size": 64,
    "intermediate_size": 128,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 130,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "position_embedding_type": "rotary",
    "tie_word_embeddings": False,
    "token_dropout": False,
}
OPTIONS = (
    *(
        "--preset",
        "nt-v2-50m",
        "--split",
        "record",
        "--window",
        str(LENGTH),
        "--batch-size",
        "32",
        "--max-steps",
        "4000",
    ),
    *("--learning-rate", "0.003", "--evaluate-every", "1000", "--patience", "0", "--threads", "1"),
    *("--name", "dnalm-planted"),
)
PRETRAINED_ON, LABELLED = 4_000, 1_500


def main() -> int:
    """Write the table and the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    arguments = parser.parse_args()
    rows = "".join(f"{name}\t{bases}\t{label}\n" for name, bases, label in planted_order(LABELLED, seed=1))
    arguments.table.write_text(f"id\tsequence\tlabel\n{rows}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sequences = "".join(f">{name}\n{bases}\n" for name, bases, _ in planted_order(PRETRAINED_ON, seed=99))
        (folder / "sequences.fasta").write_text(sequences)
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / "tokenizer.json").write_text(all_kmers(1).to_str())
        files = ["--sequences", folder / "sequences.fasta", "--model-config", folder / "config.json"]
        files += ["--tokenizer", folder / "tokenizer.json", "--output", arguments.output]
        return run(dnalm_pretrain.parser(), dnalm_pretrain.main, [*OPTIONS, *map(str, files)])


if __name__ == "__main__":
    sys.exit(main())
