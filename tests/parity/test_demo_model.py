"""The demo model has learnt: it needs fewer bits a base of held-out DNA than any Markov chain of its training windows."""

import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from dnalm.formats.fasta import FastaReader
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model

sys.path.insert(0, str(REPOSITORY / "tests"))

import make_demo_model

DATA = Path(__file__).parent / "data" / "demo_model"
WINDOW = 512


def recorded() -> dict[str, float]:
    rows = re.findall(r"^\| (.+) \| (\d\.\d+) \|$", (DATA / "README.md").read_text(), re.MULTILINE)
    return {name: float(bits) for name, bits in rows}


def test_it_beats_every_markov_chain_on_the_block_that_it_was_validated_on() -> None:
    model = load_language_model(open_model(REPOSITORY / "test-data" / "demo_model.safetensors"), head=True)
    with FastaReader(DATA / "held_out.fasta.gz") as reader:
        (record,) = reader
    windows = [record.bases[start : start + WINDOW] for start in range(0, len(record.bases), WINDOW)]
    bits = bases = 0.0
    for encoding in model.encode(windows):
        with torch.inference_mode():
            logits = model.logits(torch.from_numpy(encoding.ids)[None], None)[0].double().log_softmax(-1)
        bits -= float(logits[torch.arange(WINDOW), torch.from_numpy(encoding.ids[1:])].sum()) / math.log(2)
        bases += int((encoding.ends - encoding.starts).sum())
    assert bases == len(record.bases) == 83_968
    measured = recorded()
    assert abs(bits / bases - measured.pop("the demo model")) < 1e-4
    assert len(measured) == len(make_demo_model.ORDERS) == 7
    assert bits / bases < min(measured.values()) - 0.05


def test_a_markov_chain_is_that_written_out() -> None:
    generator = np.random.default_rng(0)
    training, held_out = (
        ["".join(generator.choice(list("AACGT"), 60)) for _ in range(12)],
        ["".join(generator.choice(list("AACGTN"), 30)) for _ in range(5)],
    )
    order, bits, total = 3, 0.0, 0
    for window in held_out:
        for place, base in enumerate(window):
            if base == "N":
                continue
            known = window[max(0, place - order) : place].rpartition("N")[2]
            seen = {letter: 0.5 + sum(count(known + letter, other) for other in training) for letter in "ACGT"}
            bits -= math.log2(seen[base] / sum(seen.values()))
            total += 1
    codes = [make_demo_model.CODES[np.frombuffer(one.encode(), dtype=np.uint8)] for one in (*training, *held_out)]
    counts = [make_demo_model.count_words(codes[:12], lower) for lower in range(order + 1)]
    stretches = [stretch for window in codes[12:] for stretch in make_demo_model.between_n(window)]
    assert sum(map(len, stretches)) == total
    assert make_demo_model.bits_per_base(counts, stretches) == pytest.approx(bits / total, abs=1e-9)


def count(word: str, text: str) -> int:
    return sum(text.startswith(word, place) for place in range(len(text)))
