"""What segmentation costs beside the model: ratios of CPU time and of memory, measured in one run, one thread, interleaved.

    python tests/benchmarks/segmentation.py --rounds 5 --output benchmark.json

A table of the same, with the targets, is written beside the JSON file. The models have random weights: a tiny one, and one
in the shape of SegmentNT (500 million parameters, 4 GB of memory), which `--without-large` leaves out. With a GPU and
`--gpu` the speed of that shape in bfloat16 is measured instead. The absolute numbers are this machine's alone.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyBigWig
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.engine import segmentation as engine
from dnalm.engine.devices import prepare_machine
from dnalm.formats.bigwig import BigWigWriter, Chromosomes
from dnalm.methods.segment_windows import Grid, step_of
from dnalm.models import nucleotide_transformer_v2
from dnalm.models.model_file import StoredModel, write_model_file
from dnalm.models.registry import load_segmenter
from dnalm.models.segmenter import Segmenter
from dnalm.models.sources import open_model
from dnalm.models.unet_head import SegmentationHead
from dnalm.tasks import segmentation
from dnalm.tasks.segmentation_options import SegmentationOptions

SCRIPT = Path(__file__).parent.parent.parent / "tools" / "scripts" / "dnalm_segment.py"
FEATURES = [f"feature_{number}" for number in range(14)]
# hidden size, layers, heads, feed-forward, k; and the window: of the large one short enough for a CPU.
TINY = (32, 2, 4, 64, 3, 1_200, 96)
LARGE = (1024, 29, 16, 4096, 6, 1_200, 4)
SMALLEST = (8, 1, 1, 16, 3, 1_200, 0)
CHUNK = 27_000  # bases that are written at once: the trusted centre of a window
LINE = 60
GPU_WINDOW, GPU_WINDOWS, HG38 = 30_000, 64, 3_100_000_000
OVERHEAD = "<= 1.10"
TARGETS = {
    "pipeline / bare forwards, tiny": OVERHEAD,
    "pipeline / bare forwards, 500 M": OVERHEAD,
    "writing a track / pyBigWig's addEntries with zoom levels": "<= 1.2",
    "bytes a base and track, 2 decimals": "<= 1.5",
    "computed and left out, of 1 Mb": "<= 0.15",
    "computed and left out, of 100 Mb": "<= 0.15",
    "peak memory of the long contig / of 1 Mb": "<= 1.10",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-large", action="store_true", help="leave the model of 500 million parameters out")
    parser.add_argument("--long-contig", type=int, default=100_000_000, help="bases; 0 leaves the memory out")
    parser.add_argument("--gpu", action="store_true", help="measure the large model on a GPU, and nothing else")
    parser.add_argument("--output", type=Path, help="JSON file of the ratios; a table is written beside it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.gpu:
            measured = on_a_gpu(folder)
        else:
            measured = pipeline(folder, arguments.rounds, "tiny", TINY)
            if not arguments.without_large:
                measured |= pipeline(folder, arguments.rounds, "500 M", LARGE)
            measured |= writing(folder, arguments.rounds) | left_out()
            if arguments.long_contig:
                measured |= memory(folder, arguments.long_contig)
    results = {name: {"measured": round(value, 4), "target": TARGETS.get(name)} for name, value in measured.items()}
    table = "ratio\tmeasured\ttarget\n"
    for name, result in results.items():
        table += f"{name}\t{result['measured']:.7g}\t{result['target'] or ''}\n"
    print(table.expandtabs(60))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
        arguments.output.with_suffix(".tsv").write_text(table)


def write_model(path: Path, *shape: int) -> None:
    """Write a SegmentNT of random weights: hidden size, layers, heads, feed-forward, k, window."""
    hidden, layers, heads, feed_forward, k, window = shape
    kmers = ["".join(kmer) for kmer in itertools.product("ATCG", repeat=k)]
    vocabulary = ["<unk>", "<pad>", "<mask>", "<cls>", *kmers, *"ATCGN"]
    config: dict[str, Any] = {
        "add_bias_fnn": False,
        "features": FEATURES,
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 2_050,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 1,
        "position_embedding_type": "rotary",
        "segment_window": window,
        "tie_word_embeddings": False,
        "token_dropout": False,
        "vocab_size": len(vocabulary),
    }
    torch.manual_seed(0)
    sizes = nucleotide_transformer_v2.Sizes(len(vocabulary), hidden, layers, heads, feed_forward, 1e-12)
    parts = {"esm.": nucleotide_transformer_v2.Backbone(sizes), "": SegmentationHead(hidden, hidden, k, len(FEATURES))}
    weights = {f"{name}{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    write_model_file(
        path,
        weights,
        config,
        {"vocab.txt": "\n".join(vocabulary), "tokenizer_config.json": {"eos_token": None}},
        name="x",
    )


def write_sequence(path: Path, bases: int) -> None:
    """Write one contig; a megabase of it is random, and repeats."""
    generator = np.random.default_rng(0)
    letters = generator.choice(np.frombuffer(b"ACGT", dtype=np.uint8), min(bases, 1_000_000)).tobytes()
    lines = b"".join(letters[start : start + LINE] + b"\n" for start in range(0, len(letters), LINE))
    with path.open("wb") as file:
        file.write(b">contig\n")
        for _ in range(max(1, bases // len(letters))):
            file.write(lines)


def pipeline(folder: Path, rounds: int, name: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Compare the whole tool, a loaded model and its hash given, with the model's forwards over the same windows."""
    *sizes, window, windows = shape
    model, sequence = folder / "model.safetensors", folder / "sequence.fa"
    write_model(model, *sizes, window)
    step = step_of(window, 0.1, 4 * sizes[-1])
    write_sequence(sequence, step * (windows - 1) + window)
    segmenter = load_segmenter(open_model(model))
    machine = prepare_machine("cpu", 1, None)
    options = SegmentationOptions(
        model, sequences=sequence, threshold=0.99, calls=folder / "calls", summary=folder / "summary", threads=1
    )
    bases = "".join(sequence.read_text().split("\n")[1:])
    starts = range(0, step * windows, step)
    batch = max(1, machine.batch_tokens * engine.BASES_A_TOKEN // window)

    def bare() -> None:
        with torch.inference_mode():
            for first in range(0, windows, batch):
                segmenter.probabilities([bases[start : start + window] for start in starts[first : first + batch]])

    def whole() -> None:
        given = mock.patch.object(segmentation, "load_segmenter", lambda stored: segmenter)
        known = mock.patch.object(StoredModel, "sha256", lambda stored: "")
        with given, known, redirect_stdout(None):
            segmentation.segment(options)

    times = interleaved(rounds, {"whole": whole, "bare": bare})
    model.unlink()
    return {f"pipeline / bare forwards, {name}": times["whole"] / times["bare"]}


def interleaved(rounds: int, tasks: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median CPU seconds of each task, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            if number:
                times[name].append(time.process_time() - start)
    print(f"{', '.join(tasks)}: done", flush=True)
    return {name: statistics.median(found) for name, found in times.items()}


def probabilities(bases: int) -> NDArray[np.float32]:
    """Return a track like a segmenter's: long quiet stretches, slopes, and noise in the third decimal."""
    generator = np.random.default_rng(0)
    logits = np.repeat(generator.normal(-4, 3, bases // 300 + 1), 300)[:bases]
    smooth = np.convolve(logits, np.ones(40) / 40, "same") + generator.normal(0, 0.1, bases)
    return (1 / (1 + np.exp(-smooth))).astype(np.float32)


def writing(folder: Path, rounds: int, bases: int = 5_000_000) -> dict[str, float]:
    """Compare a track's writer with pyBigWig's on the same chunks."""
    values = np.round(probabilities(bases), 2)
    ours, theirs = folder / "ours.bw", folder / "theirs.bw"

    def our_way() -> None:
        with BigWigWriter(ours, Chromosomes({"contig": bases})) as writer:
            for start in range(0, bases, CHUNK):
                writer.append("contig", start, values[start : start + CHUNK])
            writer.finish()

    def their_way() -> None:
        with pyBigWig.open(str(theirs), "w") as track:
            track.addHeader([("contig", bases)])
            for start in range(0, bases, CHUNK):
                track.addEntries("contig", start, values=values[start : start + CHUNK], span=1, step=1)

    times = interleaved(rounds, {"our writer": our_way, "pyBigWig": their_way})
    return {
        "writing a track / pyBigWig's addEntries with zoom levels": times["our writer"] / times["pyBigWig"],
        "bytes a base and track, 2 decimals": ours.stat().st_size / bases,
        "bytes a base and track of pyBigWig": theirs.stat().st_size / bases,
    }


def left_out() -> dict[str, float]:
    """Return the share of the model's output bases that no result has, at the default overlap and window."""
    shares = {}
    for megabases in (1, 100):
        grid = Grid(30_000, step_of(30_000, SegmentationOptions.window_overlap, 24), (0, 30_000), 24, 24, 24, False)
        windows = grid.windows(megabases * 1_000_000, np.zeros((0, 2), dtype=np.int64))
        given = sum(window.last - window.first for window in windows)
        shares[f"computed and left out, of {megabases} Mb"] = 1 - megabases * 1_000_000 / given
    return shares


def memory(folder: Path, long: int) -> dict[str, float]:
    """Compare the peak memory of a job with a long contig, all outputs but npz, with that of a megabase."""
    model = folder / "smallest.safetensors"
    write_model(model, *SMALLEST[:-1])
    peaks = {}
    for bases in (1_000_000, long):
        sequence, results = folder / "sequence.fa", folder / f"results_{bases}"
        write_sequence(sequence, bases)
        results.mkdir()
        outputs = [
            str(part) for name in ("tracks", "calls", "summary", "figure") for part in (f"--{name}", results / name)
        ]
        command = [
            sys.executable,
            str(SCRIPT),
            "--sequences",
            str(sequence),
            "--model",
            str(model),
            "--threads",
            "1",
            # Random weights flicker: at the usual threshold the segments of 100 Mb fill gigabytes.
            "--threshold",
            "0.8",
            *outputs,
        ]
        measured = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        )
        measured += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        done = subprocess.run([sys.executable, "-c", measured, *command], check=True, capture_output=True, text=True)
        peaks[bases] = int(done.stdout)
        print(f"{bases:,} bases: {peaks[bases] / 1024:,.0f} MiB at most", flush=True)
    return {
        "peak memory of the long contig / of 1 Mb": peaks[long] / peaks[1_000_000],
        "bases of the long contig": float(long),
    }


def on_a_gpu(folder: Path) -> dict[str, float]:
    """Return bases a second of the large shape in bfloat16, and what share of the GPU's matrix multiplications that is."""
    hidden, layers, heads, feed_forward, k, *_ = LARGE
    model = folder / "model.safetensors"
    write_model(model, hidden, layers, heads, feed_forward, k, GPU_WINDOW)
    segmenter = load_segmenter(open_model(model))
    machine = prepare_machine("cuda", None, None)
    segmenter.to(machine.device, torch.bfloat16)
    generator = np.random.default_rng(0)
    reads = [engine.Read(number, "".join(generator.choice(list("ACGT"), GPU_WINDOW))) for number in range(GPU_WINDOWS)]
    runner = engine.WindowRunner(segmenter, range(len(FEATURES)), False, machine)
    list(runner.run(reads[:16]))
    start = time.monotonic()
    list(runner.run(reads))
    rate = GPU_WINDOW * GPU_WINDOWS / (time.monotonic() - start)
    share = rate * operations_a_base(segmenter) / matmul_rate(machine.device)
    return {
        "Mb a second": rate / 1e6,
        "share of the matrix multiplication rate": share,
        "hours for hg38, one strand, overlap 0.1": HG38 / 0.9 / rate / 3600,
    }


def operations_a_base(segmenter: Segmenter) -> float:
    """Return multiplications and additions of backbone and head, by torch's own counter, divided by the window's bases."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        segmenter.probabilities(["ACGT" * (GPU_WINDOW // 4)])
    return counter.get_total_flops() / GPU_WINDOW


def matmul_rate(device: torch.device, size: int = 8_192) -> float:
    """Return operations a second of a large multiplication of matrices in bfloat16."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.monotonic()
        left @ right
        torch.cuda.synchronize()
        times.append(time.monotonic() - start)
    return 2 * size**3 / min(times)


if __name__ == "__main__":
    main()
