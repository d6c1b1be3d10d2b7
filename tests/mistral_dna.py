"""A tiny random classifier in the layout of Mistral-DNA's: Mixtral with byte pairs, its labels without names."""

import shutil
from pathlib import Path

import torch
import transformers
from conftest import DECODER, REPOSITORY, SIZES

# Mistral-DNA's byte pairs are those of DNABERT-2.
TOKENIZER = REPOSITORY / "tests" / "parity" / "data" / "dnabert2"


def write_mistral_dna(folder: Path, labels: int = 2) -> Path:
    """Write the files of the classifier into a new folder, and return the folder."""
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 1}
    config = transformers.MixtralConfig(**(SIZES | DECODER | special | experts | {"vocab_size": 4_096}))
    config.num_labels = labels
    torch.manual_seed(1)
    transformers.MixtralForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)
    return folder
