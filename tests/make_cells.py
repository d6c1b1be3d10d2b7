"""Make the cells of test-data/: counts drawn at random for three kinds of cells, and a scGPT with random weights.

The symbols of the genes are public facts; neither a person's cell nor a part of a published model is in the files.

    python tests/make_cells.py --output test-data
"""

import argparse
import json
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix

sys.path.insert(0, str(Path(__file__).parent.parent / "tools" / "scripts"))

import dnalm_import_model
from dnalm.models import scgpt
from dnalm.models.model_file import write_safetensors

WORDS = {
    "T cell": "CD2 CD3D CD3E CD3G CD5 CD7 CD27 CCR7 IL7R IL32 LCK LEF1 LTB TCF7 TRAC TRBC2 SELL MAL",
    "B cell": "BANK1 BLK CD19 CD22 CD37 CD74 CD79A CD79B FCER2 HLA-DRA IGHD IGHM IGKC MS4A1 PAX5 TCL1A VPREB3",
    "monocyte": "AIF1 CD14 CSF1R CST3 CTSS FCN1 FTL LYZ LST1 MNDA S100A8 S100A9 S100A12 TYROBP VCAN CD68 FCGR3A",
    "any": "ACTB ACTG1 B2M EEF1A1 EEF2 FAU GAPDH MALAT1 PTMA TMSB4X TPT1 UBA52 UBC",
}
MARKERS = {kind: WORDS[kind].split() for kind in ("T cell", "B cell", "monocyte")}
HOUSEKEEPING = [
    *(f"RPL{number}" for number in (3, 4, 5, 6, 7, 8, 9, *range(11, 20), *range(22, 33), 34, 35, 36, 37, 38, 39)),
    *(f"RPS{number}" for number in (2, 3, 5, 6, 7, 8, 9, *range(11, 22), *range(23, 30))),
    *WORDS["any"].split(),
]
UNKNOWN = ["ENSG00000999999", "not_a_gene", "cd14", "Actb", ""]  # to the model, which has capitals
SPECIAL = ["<pad>", "<cls>", "<eoc>"]
CELLS = 60
ARGUMENTS = {
    "USE_GENERATIVE_TRAINING": True,
    "d_hid": 48,
    "dropout": 0.2,
    "embsize": 32,
    "fast_transformer": True,
    "input_emb_style": "continuous",
    "input_style": "binned",
    "mask_value": -1,
    "max_seq_len": 1200,
    "n_bins": 51,
    "n_layers_cls": 3,
    "nheads": 4,
    "nlayers": 2,
    "pad_token": "<pad>",
    "pad_value": -2,
}


def main() -> None:
    """Write every file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    write_cells(output / "cells.h5ad")
    published = output / "published_scgpt"
    write_published_model(published)
    arguments = ["--config", published / "args.json", "--weights", published / "model.safetensors"]
    arguments += ["--tokenizer-files", published / "vocab.json", "--output", output / "scgpt.safetensors"]
    named = [*arguments, "--name", "dnalm-random-scgpt", "--licence", "MIT"]
    dnalm_import_model.main(dnalm_import_model.parser().parse_args([str(part) for part in named]))


def write_cells(path: Path) -> None:
    """Write counts: every cell expresses housekeeping genes, and markers of its kind ten times as much as of others.

    The last cell expresses nothing that the model knows.
    """
    random = np.random.default_rng(0)
    symbols = [*HOUSEKEEPING, *(gene for genes in MARKERS.values() for gene in genes), *UNKNOWN]
    kinds = [list(MARKERS)[number % len(MARKERS)] for number in range(CELLS)]
    levels = np.full((CELLS, len(symbols)), 0.4)
    levels[:, : len(HOUSEKEEPING)] = 3
    for row, kind in enumerate(kinds):
        levels[row, [symbols.index(gene) for gene in MARKERS[kind]]] = 4
    depth = random.lognormal(0, 0.3, (CELLS, 1))
    counts = random.poisson(levels * depth).astype(np.float32)
    counts[-1] = [2 if symbol in UNKNOWN else 0 for symbol in symbols]
    obs = pd.DataFrame({"kind": pd.Categorical(kinds)}, index=[f"cell_{number + 1}" for number in range(CELLS)])
    var = pd.DataFrame({"gene_symbol": symbols}, index=[f"gene_{number + 1}" for number in range(len(symbols))])
    data = anndata.AnnData(csr_matrix(counts), obs=obs, var=var)
    data.layers["scaled"] = (counts - counts.mean(axis=0)) / (counts.std(axis=0) + 1)
    data.write_h5ad(path)


def write_published_model(folder: Path) -> None:
    """Write the files of a model as its authors publish it, weights as safetensors under the names of their library."""
    folder.mkdir(exist_ok=True)
    symbols = [*HOUSEKEEPING, *(gene for genes in MARKERS.values() for gene in genes)]
    order = np.random.default_rng(0).permutation(len(symbols))  # names stand in no order of their numbers
    vocabulary = {symbols[number]: int(number) for number in order}
    vocabulary |= {token: len(symbols) + number for number, token in enumerate(SPECIAL)}
    (folder / "args.json").write_text(json.dumps(ARGUMENTS, indent=2) + "\n")
    (folder / "vocab.json").write_text(json.dumps(vocabulary, indent=0) + "\n")
    sizes = scgpt.Sizes(len(vocabulary), 32, 2, 4, 48, vocabulary["<pad>"])
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, tensor in sorted(scgpt.CellEncoder(sizes).state_dict().items()):
        # Biases as wide as the bins: else all values would count alike.
        scale = 20 if name == "value_encoder.linear1.bias" else 0.3
        mean = 1 if "norm" in name and name.endswith("weight") else 0
        weights[name.replace("in_proj_", "Wqkv.")] = mean + scale * torch.randn(tensor.shape, generator=generator)
    weights["flag_encoder.weight"] = torch.randn(2, 32, generator=generator)
    write_safetensors(folder / "model.safetensors", weights, {"format": "pt"})


if __name__ == "__main__":
    main()
