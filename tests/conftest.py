"""What tests share: tiny real models of every architecture, the entry scripts, one real Galaxy."""

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers

if TYPE_CHECKING:
    from server import GalaxyServer

REPOSITORY = Path(__file__).resolve().parent.parent
TEST_DATA = REPOSITORY / "test-data"
ENVIRONMENTS = REPOSITORY / ".environments"
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
os.environ["HF_HUB_OFFLINE"] = "1"

VOCABULARY = [
    "<unk>",
    "<pad>",
    "<mask>",
    "<cls>",
    *("".join(kmer) for kmer in itertools.product("ATCG", repeat=3)),
    *"ATCGN",
]
SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 1,
    "bos_token_id": None,
    "eos_token_id": None,
}
DECODER: dict[str, Any] = {"num_key_value_heads": 2}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", {}),
    "esm-rotary": ("EsmForMaskedLM", {"position_embedding_type": "rotary", "mask_token_id": 2}),
    "esm-absolute": (
        "EsmForMaskedLM",
        {"position_embedding_type": "absolute", "mask_token_id": 2, "token_dropout": True},
    ),
    "modernbert": (
        "ModernBertForMaskedLM",
        {"global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 3, "sep_token_id": 3},
    ),
    "deberta-v2": ("DebertaV2ForMaskedLM", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "distilbert": ("DistilBertForMaskedLM", {"n_layers": 3, "n_heads": 4, "hidden_dim": 48}),
    "electra": ("ElectraForMaskedLM", {"embedding_size": 32}),
    "roberta": ("RobertaForMaskedLM", {}),
    "roformer": ("RoFormerForMaskedLM", {"embedding_size": 32}),
    "gemma": ("GemmaForCausalLM", DECODER | {"head_dim": 8}),
    "gemma2": ("Gemma2ForCausalLM", DECODER | {"head_dim": 8, "sliding_window": 8}),
    "gpt2": ("GPT2LMHeadModel", {}),
    "gpt_neox": ("GPTNeoXForCausalLM", {}),
    "modernbert-decoder": (
        "ModernBertDecoderForCausalLM",
        {"local_attention": 8, "cls_token_id": 3, "sep_token_id": 3, "bos_token_id": 3, "eos_token_id": 3},
    ),
    "olmo2": ("Olmo2ForCausalLM", DECODER),
    "phi": ("PhiForCausalLM", DECODER),
    "qwen2": ("Qwen2ForCausalLM", DECODER),
    "qwen3": ("Qwen3ForCausalLM", DECODER | {"head_dim": 8}),
    "starcoder2": ("Starcoder2ForCausalLM", DECODER),
    "llama": ("LlamaForCausalLM", DECODER),
    "mistral": ("MistralForCausalLM", DECODER),
    "mixtral": ("MixtralForCausalLM", DECODER | {"num_local_experts": 4, "num_experts_per_tok": 1}),
    "olmo": ("OlmoForCausalLM", DECODER),
}

NOT_SHIPPED = shutil.ignore_patterns(".git", ".environments", ".galaxy", ".*_cache", "demo-results", "__pycache__")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives a Hugging Face folder with a tiny random model of an architecture."""
    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            class_name, settings = ARCHITECTURES[architecture]
            model_class = getattr(transformers, class_name)
            torch.manual_seed(1)
            model_class(model_class.config_class(**(SIZES | settings))).save_pretrained(folder)
            (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
            (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": None, "model_max_length": 200}))
            made[architecture] = folder
        return made[architecture]

    return make


@pytest.fixture
def demo_model() -> Path:
    return TEST_DATA / "demo_model.safetensors"


@pytest.fixture
def run_embed(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run dnalm_embed's entry script in this process: exit code, stdout, stderr."""
    import dnalm_embed

    yield from running(dnalm_embed.parser, dnalm_embed.embed, capsys)


@pytest.fixture
def run_project(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run dnalm_project's entry script in this process: exit code, stdout, stderr."""
    import dnalm_project

    yield from running(dnalm_project.parser, dnalm_project.project, capsys)


@pytest.fixture
def run_import(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run dnalm_import_model's entry script in this process: exit code, stdout, stderr."""
    import dnalm_import_model

    yield from running(dnalm_import_model.parser, dnalm_import_model.import_model, capsys)


@pytest.fixture
def run_export(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run dnalm_export_model's entry script in this process: exit code, stdout, stderr."""
    import dnalm_export_model

    yield from running(dnalm_export_model.parser, dnalm_export_model.export_model, capsys)


@pytest.fixture
def run_generate(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run dnalm_generate's entry script in this process: exit code, stdout, stderr."""
    import dnalm_generate

    yield from running(dnalm_generate.parser, dnalm_generate.generate, capsys)


def running(
    parser: Callable[[], argparse.ArgumentParser],
    task: Callable[[argparse.Namespace], None],
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    from dnalm.entry_point import run

    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run(parser(), task, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Tool Shed's archive of the suite and unpack it into an empty folder."""
    folder = tmp_path_factory.mktemp("tool-shed")
    # A copy, because planemo writes the archive beside the folder it is made of.
    shutil.copytree(REPOSITORY, folder / "suite", symlinks=True, ignore=NOT_SHIPPED)
    planemo = ENVIRONMENTS / "planemo" / "bin" / "planemo"
    subprocess.run([planemo, "shed_build", folder / "suite"], check=True, cwd=folder, stdin=subprocess.DEVNULL)
    unpacked = folder / "unpacked"
    with tarfile.open(folder / "suite.tar.gz") as archive:
        archive.extractall(unpacked, filter="data")
    shutil.rmtree(folder / "suite")
    return unpacked


@pytest.fixture(scope="session")
def galaxy(shipped: Path) -> "Iterator[GalaxyServer]":
    """A running Galaxy with the shipped suite, and nothing of the checkout."""
    from server import GalaxyServer

    with GalaxyServer(REPOSITORY / ".galaxy" / "test", shipped, ENVIRONMENTS) as server:
        yield server
