"""How fast the native architectures run and load: ratios of one run, one thread, interleaved, median of the rounds.

    python tests/benchmarks/models.py --rounds 5 --output models.json

Each architecture of ours is compared with one of transformers' that has as many weights and fused attention; loading a
model file with the official reader of its format.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools" / "scripts"))

from dnalm.models import dnabert2, nucleotide_transformer_v2
from dnalm.models.model_file import write_model_file
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model

BATCH, TOKENS = 8, 128
V2_SIZES = nucleotide_transformer_v2.Sizes(4107, 512, 12, 16, 2048, 1e-12)
DNABERT2_SIZES = dnabert2.Sizes(4096, 2, 768, 12, 12, 3072, 1e-12)
# A gated layer has three matrices where a plain one has two.
GATED = 3 / 2
LOADED_LAYERS = 16  # of this width: about 500 MB


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file of the ratios")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = speeds(arguments.rounds) | loading(arguments.rounds)
    for name, ratio in results.items():
        print(f"{name:70s} {ratio:8.3f}")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def speeds(rounds: int) -> dict[str, float]:
    """Return the rate of each architecture of ours as a share of its peer's, without and with padding."""
    ids = torch.randint(6, 4000, (BATCH, TOKENS))
    mask = (torch.arange(TOKENS) < torch.randint(TOKENS // 2, TOKENS, (BATCH, 1))).long()
    pairs = {"NT v2-50M / ESM": (ours_v2(), esm()), "DNABERT-2 / BERT": (ours_dnabert2(), bert())}
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for pair, models in pairs.items():
            for kind, attention_mask in (("no padding", None), ("padded", mask)):
                for model, whose in zip(models, ("ours", "peer"), strict=True):
                    times.setdefault(f"{pair}, {kind} {whose}", []).append(cpu_time(model, ids, attention_mask))
    middle = {name: statistics.median(found) for name, found in times.items()}
    names = [name.removesuffix(" ours") for name in middle if name.endswith(" ours")]
    return {f"{name}: rate": middle[f"{name} peer"] / middle[f"{name} ours"] for name in names}


def cpu_time(model: nn.Module, ids: Tensor, mask: Tensor | None) -> float:
    """Return the processor's seconds of one forward of a backbone."""
    start = time.process_time()
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=mask)
    return time.process_time() - start


def ours_v2() -> nn.Module:
    """The shape of v2-50m."""
    return nucleotide_transformer_v2.Backbone(V2_SIZES).eval()


def ours_dnabert2() -> nn.Module:
    """The shape of DNABERT-2."""
    return dnabert2.Backbone(DNABERT2_SIZES).eval()


def esm() -> nn.Module:
    """Transformers' ESM with as many weights as v2-50m."""
    sizes = V2_SIZES
    config = transformers.EsmConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=int(GATED * sizes.feed_forward),
        position_embedding_type="rotary",
        token_dropout=False,
        pad_token_id=1,
        max_position_embeddings=2050,
        attn_implementation="sdpa",
    )
    return transformers.EsmModel(config, add_pooling_layer=False).eval()


def bert() -> nn.Module:
    """Transformers' BERT with as many weights as DNABERT-2."""
    sizes = DNABERT2_SIZES
    config = transformers.BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=int(GATED * sizes.feed_forward),
        attn_implementation="sdpa",
    )
    return transformers.BertModel(config, add_pooling_layer=False).eval()


def loading(rounds: int) -> dict[str, float]:
    """Return time and memory of loading a model file of 500 MB, beside the official reader's and the file's size."""
    sizes = nucleotide_transformer_v2.Sizes(4107, 1024, LOADED_LAYERS, 16, 4096 // 4, 1e-12)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        config = {
            "add_bias_fnn": False,
            "hidden_size": sizes.hidden,
            "intermediate_size": sizes.feed_forward,
            "layer_norm_eps": sizes.layer_norm_epsilon,
            "max_position_embeddings": 2050,
            "num_attention_heads": sizes.heads,
            "num_hidden_layers": sizes.layers,
            "vocab_size": sizes.vocabulary,
        }
        vocabulary = Path(__file__).parent.parent / "parity" / "data" / "nt_v2" / "vocab.txt"
        model = nucleotide_transformer_v2.MaskedLanguageModel(sizes)
        write_model_file(path, model.state_dict(), config, {"vocab.txt": vocabulary.read_text()}, name="benchmark")
        del model
        size = path.stat().st_size
        found: dict[str, list[tuple[float, float]]] = {"ours": [], "safetensors": []}
        for _ in range(rounds):
            for reader, results in found.items():
                results.append(in_a_process(reader, path))
    seconds = {reader: statistics.median(second for second, _ in results) for reader, results in found.items()}
    return {
        "size of the model file in MB": size / 1e6,
        "loading a model file / its official reader, seconds": seconds["ours"] / seconds["safetensors"],
        "memory gained by loading / size of the file": max(memory for _, memory in found["ours"]) / size,
    }


def in_a_process(reader: str, path: Path) -> tuple[float, float]:
    """Return seconds and bytes of peak memory that loading costs, in a process of its own, all weights touched once."""
    command = [sys.executable, __file__, "--load", reader, str(path)]
    seconds, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    return float(seconds), float(memory)


def load(reader: str, path: Path) -> None:
    """Load a file, read every weight once as a forward does, and print seconds and bytes."""
    before = peak_memory()
    start = time.perf_counter()
    if reader == "ours":
        tensors = dict(load_language_model(open_model(path), head=True).with_head.state_dict())  # type: ignore[union-attr]
    else:
        tensors = load_file(path)
    for tensor in tensors.values():
        tensor.sum()
    seconds = time.perf_counter() - start
    print(seconds, peak_memory() - before)


def peak_memory() -> int:
    """Return the most bytes this program has held, mapped files included (not its parent's, as resource would)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        load(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
