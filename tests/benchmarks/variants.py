"""How fast variants are scored: ratios of CPU time, measured in one run, one thread, interleaved, median of the rounds.

    python tests/benchmarks/variants.py --tokenizer tokenizer.json --rounds 5 --output benchmark.json

A table of the same, with the targets, is written beside the JSON file. The causal model has random weights in the shape
of Mistral-DNA's 17 M parameters (Mixtral, 8 layers, hidden size 256, 8 experts) and the byte pairs of the tokenizer that
is given; the masked one is an ESM of single letters. The tutorial's way is one batch padded to its longest, with logits
and autograd, whose maximum counts the padding. The absolute numbers are this machine's alone; only ratios are worth
quoting.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.engine.devices import Machine, prepare_machine
from dnalm.engine.scoring import ScoreChoices, VariantScorer
from dnalm.engine.variant_tokens import Site
from dnalm.formats.fasta import FastaWriter
from dnalm.formats.tables import TableWriter
from dnalm.methods.variant_windows import shared_windows, variant_windows
from dnalm.models.language_model import LanguageModel
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model
from dnalm.models.vocabularies import all_kmers
from dnalm.report.provenance import provenance
from dnalm.tasks.variant_inputs import VcfVariants, Windowing
from dnalm.tasks.variant_outputs import VariantVcf, rows

SCRIPT = Path(__file__).parent.parent.parent / "tools" / "scripts" / "dnalm_score_variants.py"
LENGTH = 201
CAUSAL = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "num_hidden_layers": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 1,
    "max_position_embeddings": 512,
}
MASKED = {
    "hidden_size": 256,
    "intermediate_size": 1_024,
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "max_position_embeddings": 1_100,
    "position_embedding_type": "rotary",
    "token_dropout": False,
}
LETTERS = "ACGT"
TARGETS = {
    "l2 / the tutorial": ">= 1.4",
    "l2 in bfloat16 / the tutorial": ">= 2.1",
    "wild type of all SNVs of a window / one by one": ">= 100",
    "reading and writing, share of the run": "<= 0.05",
    "memory of many records / few": "< 1.2",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json of byte pairs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=100, help="as many as the tutorial scores")
    parser.add_argument("--window", type=int, default=1_000, help="bases whose every change is scored")
    parser.add_argument("--alone", type=int, default=8, help="of these changes, scored one by one")
    parser.add_argument("--many", type=int, default=1_000_000, help="records whose memory is compared with --few")
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--output", type=Path, help="JSON file of the ratios; a table is written beside it")
    arguments = parser.parse_args()
    machine = prepare_machine("cpu", 1, None)
    with tempfile.TemporaryDirectory() as folder:
        causal = write_model(Path(folder) / "causal", "MixtralForCausalLM", CAUSAL, arguments.tokenizer.read_text())
        masked = write_model(Path(folder) / "masked", "EsmForMaskedLM", MASKED, all_kmers(1).to_str())
        ways = make_ways(causal, masked, arguments, machine)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(arguments.rounds):
            for name, (run, count) in ways.items():
                start = time.process_time()
                run()
                rates[name].append(count / (time.process_time() - start))
            print(f"round {number + 1} of {arguments.rounds} done", flush=True)
        rate = {name: statistics.median(found) for name, found in rates.items()}
        measured = {
            "l2 / the tutorial": rate["l2"] / rate["tutorial"],
            "l2 / one by one": rate["l2"] / rate["one by one"],
            "l2 in bfloat16 / the tutorial": rate["l2 bfloat16"] / rate["tutorial"],
            "l2 in bfloat16 / float32": rate["l2 bfloat16"] / rate["l2"],
            "r of l2 in bfloat16 with float32": correlation(causal, arguments, machine),
            "llr_causal, shared prefix / whole windows": rate["llr_causal"] / rate["whole windows"],
            "llr_causal of all SNVs, shared prefix / whole windows": rate["saturated"] / rate["saturated whole"],
            "wild type of all SNVs of a window / one by one": rate["wild type"] / rate["wild type alone"],
            "reading and writing, share of the run": rate["l2"] / rate["reading and writing"],
            "memory of many records / few": memory(Path(folder), arguments),
        }
    results = {name: {"measured": round(value, 6), "target": TARGETS.get(name)} for name, value in measured.items()}
    table = "ratio\tmeasured\ttarget\n"
    for name, result in results.items():
        table += f"{name}\t{result['measured']:.5g}\t{result['target'] or ''}\n"
    print(table.expandtabs(60))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        arguments.output.with_suffix(".tsv").write_text(table)


def write_model(folder: Path, class_name: str, settings: Mapping[str, object], tokenizer: str) -> Path:
    """Write a model of random weights with a tokenizer."""
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    model_class = getattr(transformers, class_name)
    special = {"pad_token_id": vocabulary["[PAD]"], "mask_token_id": vocabulary["[MASK]"]}
    torch.manual_seed(0)
    config = model_class.config_class(**settings, **special, vocab_size=len(vocabulary))
    model_class(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]", "mask_token": "[MASK]"}))
    return folder


def loaded(folder: Path) -> LanguageModel:
    """Return a model with its head."""
    return load_language_model(open_model(folder), head=True)


def pairs(count: int) -> list[Site]:
    """Return pairs of random sequences that differ in their middle base."""
    generator = np.random.default_rng(0)
    sites = []
    for _ in range(count):
        bases = "".join(generator.choice(list(LETTERS), LENGTH))
        sites += changes(bases, range(LENGTH // 2, LENGTH // 2 + 1), None)[:1]
    return sites


def changes(bases: str, positions: range, context: int | None) -> list[Site]:
    """Return every change of some bases."""
    sites = []
    for position in positions:
        for letter in LETTERS:
            if letter != bases[position]:
                where = (lambda start, end: bases[start:end], len(bases), position, bases[position], letter, context)
                sites.append(Site(variant_windows(*where), shared_windows(*where)))
    return sites


def make_ways(
    causal: Path, masked: Path, arguments: argparse.Namespace, machine: Machine
) -> dict[str, tuple[Callable[[], object], int]]:
    """Return what is measured: name → what runs, and how many variants it scores."""
    sites = pairs(arguments.pairs)
    plain = transformers.AutoModelForCausalLM.from_pretrained(causal, trust_remote_code=False).eval()
    model = loaded(causal)
    encodings = [
        [encoding.ids.tolist() for encoding in model.encode([getattr(site.windows, side).bases for site in sites])]
        for side in ("reference", "alternative")
    ]
    # Batches as the task has them.
    exact, half = (machine.suiting(CAUSAL["hidden_size"], dtype) for dtype in ("float32", "bfloat16"))
    l2, lower, likelihood, wild_type = (
        VariantScorer(loaded(folder), ScoreChoices((score,)), suited)
        for folder, score, suited in (
            (causal, "l2", exact),
            (causal, "l2", half),
            (causal, "llr_causal", exact),
            (masked, "llr_wildtype", exact),
        )
    )
    lower.change_precision("bfloat16", sites)
    letters = "".join(np.random.default_rng(1).choice(list(LETTERS), arguments.window))
    of_window = changes(letters, range(arguments.window), None)
    saturated = changes(letters, range(300, 310), LENGTH)
    return {
        "tutorial": (lambda: tutorial(plain, encodings, model.pad_id), len(sites)),
        "one by one": (lambda: [l2.score([site]) for site in sites[:20]], 20),
        "l2": (lambda: l2.score(sites), len(sites)),
        "l2 bfloat16": (lambda: lower.score(sites), len(sites)),
        "llr_causal": (lambda: likelihood.score(sites), len(sites)),
        "whole windows": (lambda: whole_windows(model, sites, exact), len(sites)),
        "saturated": (lambda: likelihood.score(saturated), len(saturated)),
        "saturated whole": (lambda: whole_windows(model, saturated, exact), len(saturated)),
        "wild type": (lambda: wild_type.score(of_window), len(of_window)),
        "wild type alone": (
            lambda: [wild_type.score([site]) for site in of_window[: arguments.alone]],
            arguments.alone,
        ),
        "reading and writing": reading_and_writing(causal.parent, l2),
    }


def tutorial(model: torch.nn.Module, encodings: list[list[list[int]]], pad: int) -> torch.Tensor:
    """One batch of all REF, one of all ALT: logits with their graph, and the maximum over tokens and padding."""
    pooled = []
    for side in encodings:
        longest = max(map(len, side))
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in side])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in side])
        pooled.append(model(ids, attention_mask=mask)[0].max(dim=1)[0])
    return torch.norm(pooled[0] - pooled[1], dim=1)


def whole_windows(model: LanguageModel, sites: list[Site], machine: Machine) -> list[float]:
    """Log-likelihoods of whole windows in sorted batches: every window once, nothing of it shared."""
    bases = list(dict.fromkeys(allele.bases for site in sites for allele in site.alleles))
    encodings = sorted(model.encode(bases), key=len)
    found = []
    with torch.inference_mode():
        size = max(machine.batch_tokens // len(encodings[-1]), 1)
        for first in range(0, len(encodings), size):
            batch = encodings[first : first + size]
            ids = torch.full((len(batch), max(map(len, batch))), model.pad_id)
            for row, encoding in enumerate(batch):
                ids[row, : len(encoding)] = torch.from_numpy(encoding.ids)
            scores = model.logits(ids, None)[:, :-1].log_softmax(-1)
            found += scores.gather(2, ids[:, 1:, None]).sum((1, 2)).tolist()
    return found


def correlation(folder: Path, arguments: argparse.Namespace, machine: Machine) -> float:
    """Return r of bfloat16's distances with those of float32."""
    sites, scorer = pairs(arguments.pairs), VariantScorer(loaded(folder), ScoreChoices(("l2",)), machine)
    exact = [one.values["l2"] for one in scorer.score(sites)]
    scorer.change_precision("bfloat16", sites)
    return float(np.corrcoef(exact, [one.values["l2"] for one in scorer.score(sites)])[0, 1])


def write_vcf(folder: Path, records: int) -> tuple[Path, Path]:
    """Write a genome and a VCF of so many records, five to a base."""
    generator = np.random.default_rng(2)
    bases = "".join(generator.choice(list(LETTERS), 200_000 + 10 * LENGTH))
    genome, variants = folder / "genome.fa", folder / f"{records}.vcf"
    writer = FastaWriter(genome)
    writer.append("chr1", "random", bases)
    writer.__exit__()
    with variants.open("w") as file:
        for number in range(records):
            position = LENGTH + number * 200_000 // records
            letter = LETTERS[(LETTERS.index(bases[position]) + 1 + number % 3) % 4]
            file.write(f"chr1\t{position + 1}\trs{number}\t{bases[position]}\t{letter}\t50\tPASS\tAF=0.1;DP=50\n")
    return genome, variants


def reading_and_writing(folder: Path, scorer: VariantScorer) -> tuple[Callable[[], object], int]:
    """Return what reads a VCF, lays windows, and writes table and VCF, without a model."""
    count = 5_000
    genome, variants = write_vcf(folder, count)
    choices = ScoreChoices(("l2",))
    (one,) = scorer.score(pairs(1))
    facts = provenance("benchmark", {}, scorer.facts(), "cpu", {})

    def run() -> None:
        source = VcfVariants(variants, genome, None, False)
        table, vcf = TableWriter(folder / "table"), VariantVcf(folder / "vcf", source.reader, choices, "", facts)
        with table, vcf:
            entries = list(source.entries(Windowing(LENGTH - 1, False)))
            found = [variant for entry in entries for variant in entry.variants]
            table.append(rows(found, [one] * len(found), choices))
            vcf.append(entries, [one] * len(found))
        source.close()

    return run, count


def memory(folder: Path, arguments: argparse.Namespace) -> float:
    """Return the most memory that a job of many records takes, over that of one of few; a tiny model."""
    tiny = MASKED | {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}
    model = write_model(folder / "tiny", "EsmForMaskedLM", tiny, all_kmers(1).to_str())
    peaks = []
    for records in (arguments.few, arguments.many):
        genome, variants = write_vcf(folder, records)
        command = [SCRIPT, "--variants", variants, "--reference", genome, "--model", model, "--context", 20]
        outputs = ["--output-table", folder / "t", "--output-vcf", folder / "v", "--figure", folder / "f"]
        watched = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)"
        )
        watched += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        options = ["--device", "cpu", "--threads", 1]
        told = [sys.executable, "-c", watched, sys.executable, *map(str, [*command, *outputs, *options])]
        start = time.monotonic()
        peaks.append(int(subprocess.run(told, check=True, capture_output=True, text=True).stdout))
        print(f"{records:,} records: {peaks[-1] / 1024:.0f} MiB, {time.monotonic() - start:.0f} s", flush=True)
    return peaks[1] / peaks[0]


if __name__ == "__main__":
    main()
