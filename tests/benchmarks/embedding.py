"""How fast embedding is: ratios of CPU time, measured in one run, one thread, interleaved, median of the rounds.

    python tests/benchmarks/embedding.py --rounds 5 --output benchmark-results/embedding.json

A table of the same, with the targets, is written beside the JSON file. The model card's two sequences take 20 GB.

The model has random weights in the shape of a Nucleotide Transformer of 40 M parameters (ESM, hidden size 512, 12
layers, 6-mers). The absolute numbers are this machine's alone; only ratios are worth quoting.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.engine.devices import prepare_machine
from dnalm.engine.representations import ModelChoices, ModelRepresentation
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.models.tokenizers import Encoding

SCRIPTS = Path(__file__).parent.parent.parent / "tools" / "scripts"
HIDDEN, LAYERS, HEADS, FEED_FORWARD = 512, 12, 16, 2_048
CARD_LENGTH = 2_048  # tokens that model cards pad every sequence to
GEMM_SIZE = 1_024  # rows of the matrix multiplication that shows the processor's limit: a batch of tokens

TOKENIZED_TIMES = 100  # one pass is over before the clock has moved
TARGETS = {
    "float32 / model card": ">= 340",
    "float32 / unsorted batches of 32": ">= 1.7",
    "bfloat16 / model card": ">= 600",
    "lowest cosine of bfloat16 with float32": ">= 0.9999",
    "int8 / float32": ">= 2.5",
    "lowest cosine of int8 with float32": ">= 0.998",
    "batches of 1,024 tokens / 4,096": ">= 1.2",
    "batches of 1,024 tokens / 16,384": ">= 1.5",
    "6-mer tokenizing, Mb/s": ">= 50",
    "time to the first embedding / plain transformers": "<= 1.3",
}
PLAIN_START = """
import json, sys, torch
from transformers import EsmForMaskedLM
torch.set_num_threads(1)
model = EsmForMaskedLM.from_pretrained(sys.argv[1]).eval()
with torch.inference_mode():
    model(torch.tensor([json.loads(sys.argv[2])]))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequences", type=int, default=512)
    parser.add_argument(
        "--card-sequences", type=int, default=2, help="sequences that the model card's way takes at once"
    )
    parser.add_argument("--output", type=Path, help="JSON file of the ratios; a table is written beside it")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    lengths = generator.integers(60, 601, arguments.sequences)
    sequences = ["".join(generator.choice(list("ACGT"), length)) for length in lengths]
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        variants, cosines = make_variants(Path(folder), sequences, arguments.card_sequences)
        rates: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(arguments.rounds):
            for name, (run, count) in variants.items():
                start = processor_time()
                run()
                rates[name].append(count / (processor_time() - start))
            print(f"round {number + 1} of {arguments.rounds} done", flush=True)
    rate = {name: statistics.median(found) for name, found in rates.items()}
    measured = {
        "float32 / model card": rate["float32"] / rate["model card"],
        "float32 / unsorted batches of 32": rate["float32"] / rate["unsorted 32"],
        "float32 / one by one": rate["float32"] / rate["one by one"],
        "bfloat16 / model card": rate["bfloat16"] / rate["model card"],
        "bfloat16 / float32": rate["bfloat16"] / rate["float32"],
        "lowest cosine of bfloat16 with float32": cosines["bfloat16"],
        "int8 / float32": rate["int8"] / rate["float32"],
        "lowest cosine of int8 with float32": cosines["int8"],
        "batches of 1,024 tokens / 4,096": rate["float32"] / rate["4,096 tokens"],
        "batches of 1,024 tokens / 16,384": rate["float32"] / rate["16,384 tokens"],
        "share of the matrix multiplication rate": rate["float32"] * flops_a_sequence(lengths) / rate["GEMM"],
        "6-mer tokenizing, Mb/s": rate["tokenizing"] / 1e6,
        "time to the first embedding / plain transformers": rate["plain start"] / rate["our start"],
    }
    results = {name: {"measured": round(value, 6), "target": TARGETS.get(name)} for name, value in measured.items()}
    table = "ratio\tmeasured\ttarget\n"
    for name, result in results.items():
        table += f"{name}\t{result['measured']:.7g}\t{result['target'] or ''}\n"
    print(table.expandtabs(52))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        arguments.output.with_suffix(".tsv").write_text(table)


def processor_time() -> float:
    """Return the seconds of processor time that this process and the children it waited for have taken."""
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + of_children.ru_utime + of_children.ru_stime


def write_model(folder: Path) -> None:
    """Write the model of random weights as a Hugging Face folder."""
    kmers = ["".join(kmer) for kmer in itertools.product("ATCG", repeat=6)]
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>", *kmers, *"ATCGN"]
    config = transformers.EsmConfig(
        vocab_size=len(vocabulary),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=FEED_FORWARD,
        max_position_embeddings=CARD_LENGTH + 2,
        position_embedding_type="rotary",
        pad_token_id=1,
        mask_token_id=2,
        token_dropout=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    transformers.EsmForMaskedLM(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))


def make_variants(
    folder: Path, sequences: list[str], card_sequences: int
) -> tuple[dict[str, tuple[Callable[[], object], int]], dict[str, float]]:
    """Return what is compared, each with what it counts (sequences, or operations), and cosines of lower precisions."""
    machine = prepare_machine("cpu", 1, None)
    model = load_language_model(open_model(folder))
    encodings = model.encode(sequences)
    eager = transformers.EsmForMaskedLM.from_pretrained(folder, attn_implementation="eager", trust_remote_code=False)
    plain = transformers.EsmForMaskedLM.from_pretrained(folder, attn_implementation="sdpa", trust_remote_code=False)
    lower, lowest = (
        ModelRepresentation(load_language_model(open_model(folder)), ModelChoices(), machine) for _ in range(2)
    )
    names = [str(number) for number in range(len(sequences))]
    cosines = {
        "bfloat16": lower.change_precision("bfloat16", names, sequences),
        "int8": lowest.change_precision("int8", names, sequences),
    }
    left, right = torch.randn(GEMM_SIZE, HIDDEN), torch.randn(HIDDEN, FEED_FORWARD)

    def ours(budget: int) -> Callable[[], object]:
        representation = ModelRepresentation(model, ModelChoices(), replace(machine, batch_tokens=budget))
        return lambda: representation.embed(names, sequences)

    count = len(sequences)
    one = folder / "one.fasta"
    one.write_text(f">one\n{sequences[0]}\n")
    first_ids = json.dumps(encodings[0].ids.tolist())
    ours_alone = [str(SCRIPTS / "dnalm_embed.py"), "--sequences", str(one), "--model", str(folder), "--threads", "1"]
    ours_alone += ["--device", "cpu", "--output", str(folder.with_suffix(".h5ad"))]
    bases = sum(map(len, sequences)) * TOKENIZED_TIMES
    return {
        "model card": (lambda: like_the_model_card(eager.eval(), encodings[:card_sequences]), card_sequences),
        "unsorted 32": (lambda: in_the_order_given(plain.eval(), model, encodings, 32), count),
        "one by one": (lambda: in_the_order_given(plain.eval().esm, model, encodings, 1), count),
        "16,384 tokens": (ours(16_384), count),
        "4,096 tokens": (ours(4_096), count),
        "float32": (ours(machine.batch_tokens), count),
        "bfloat16": (lambda: lower.embed(names, sequences), count),
        "int8": (lambda: lowest.embed(names, sequences), count),
        "tokenizing": (lambda: [model.tokenizer.encode(sequences) for _ in range(TOKENIZED_TIMES)], bases),
        "plain start": (lambda: in_a_process("-c", PLAIN_START, str(folder), first_ids), 1),
        "our start": (lambda: in_a_process(*ours_alone), 1),
        "GEMM": (lambda: [left @ right for _ in range(200)], 200 * 2 * GEMM_SIZE * HIDDEN * FEED_FORWARD),
    }, cosines


def like_the_model_card(model: nn.Module, encodings: list[Encoding]) -> object:
    """Pad to the longest input of the model, keep every layer and the gradients' graph, compute the head."""
    ids = np.full((len(encodings), CARD_LENGTH), 1)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding)] = encoding.ids
    input_ids = torch.from_numpy(ids)
    mask = input_ids != 1
    hidden = model(input_ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def in_a_process(*arguments: str) -> None:
    """Run Python to its end; what it takes is counted with the children of this process."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def in_the_order_given(model: nn.Module, tokens_of: LanguageModel, encodings: list[Encoding], size: int) -> object:
    """Batches as they come, padded to their longest."""
    vectors = []
    with torch.inference_mode():
        for first in range(0, len(encodings), size):
            batch = encodings[first : first + size]
            ids = np.full((len(batch), max(map(len, batch))), tokens_of.pad_id)
            for row, encoding in enumerate(batch):
                ids[row, : len(encoding)] = encoding.ids
            input_ids = torch.from_numpy(ids)
            mask = input_ids != tokens_of.pad_id
            output = model(input_ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
            vectors.append((output * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
    return vectors


def flops_a_sequence(lengths: np.ndarray) -> float:
    """Return the operations of the layers' matrices and of attention, a sequence of mean cost."""
    tokens = lengths // 6 + lengths % 6 + 1
    matrices = 2 * LAYERS * (4 * HIDDEN**2 + 2 * HIDDEN * FEED_FORWARD)
    attention = 4 * LAYERS * HIDDEN
    return float((tokens * matrices + tokens**2 * attention).mean())


if __name__ == "__main__":
    main()
