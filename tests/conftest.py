"""What tests share: tiny real models of every architecture, the entry scripts, one real Galaxy."""

import contextlib
import functools
import importlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Tests run side by side, one per core: more threads than cores wait for each other. Those about threads ask for them.
os.environ["OMP_NUM_THREADS"] = os.environ["GALAXY_SLOTS"] = "1"
# An error that nobody foresaw fails a test with its traceback, where users read a sentence.
os.environ["DNALM_DEBUG"] = "1"

# A shell that runs the tests in the background has Ctrl-C ignored, by them and by every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import torch
import transformers

if TYPE_CHECKING:
    from endpoint import EndpointServer
    from hub import Hub
    from server import GalaxyServer

REPOSITORY = Path(__file__).resolve().parent.parent
TEST_DATA = REPOSITORY / "test-data"
ENVIRONMENTS = REPOSITORY / ".environments"
FORMS = [
    *sorted((REPOSITORY / "tools").glob("dnalm_*.xml")),
    REPOSITORY / "tools" / "data_manager" / "data_manager_dnalm.xml",
]
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


# These tests of the folder do not use the running Galaxy that the others share.
WITHOUT_SHARED_GALAXY = ("test_datatypes.py", "test_demo.py", "test_tpv.py")


class OneGalaxy(LoadScopeScheduling):
    """Keeps the tests that share a Galaxy in one process, from the beginning, and shares out all others one by one.

    The mark for that, `xdist_group`, does nothing with pytest 9.2 (pytest-xdist 3.8.0).
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "galaxy" if "tests/galaxy/" in path and not path.endswith(WITHOUT_SHARED_GALAXY) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneGalaxy:
    """Return how tests are shared out to processes."""
    return OneGalaxy(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how long the tests of each folder took, in all processes together."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[str(Path(report.location[0]).parent)] += report.duration
    terminalreporter.section("seconds per folder")
    for folder, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{spent:8.1f}  {folder}")


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
    """A causal model of single letters that has learnt."""
    return TEST_DATA / "demo_model.safetensors"


@pytest.fixture
def random_model() -> Path:
    """A masked model of 3-mers with random weights."""
    return TEST_DATA / "random_model.safetensors"


@pytest.fixture
def run_tool(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a tool's entry script in this process: `run_tool("embed", "--model", …)` gives exit code, stdout, stderr."""
    with script_runner(capsys) as run_script:
        yield lambda tool, *arguments: run_script(f"dnalm_{tool}", *arguments)


@pytest.fixture(scope="session")
def segmenter_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SegmentNT of 3-mers with random weights, whose probabilities change from base to base: CDS, rRNA, tRNA."""
    from make_test_data import write_random_segmenter

    path = tmp_path_factory.mktemp("segmenter") / "segmenter.safetensors"
    write_random_segmenter(path)
    return path


@pytest.fixture
def hub() -> "Iterator[Hub]":
    """Run a Hugging Face hub on this machine."""
    from hub import serving

    with serving() as hub:
        yield hub


@pytest.fixture
def run_install(
    hub: "Hub", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run data_manager_dnalm's entry script in this process against the local hub: exit code, stdout, stderr.

    It writes into tmp_path: the row as `row.json`, the model below `models`, broken downloads below `downloads`.
    """
    import huggingface_hub

    # The library reads its environment when it is imported, which was long ago.
    address = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    settings: dict[str, Any] = {"ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": address, "HF_HUB_OFFLINE": False}
    settings["HF_HUB_DISABLE_TELEMETRY"] = True
    for name, value in (settings | {"DOWNLOAD_CHUNK_SIZE": 1024}).items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    places = {"--output": "row.json", "--output-directory": "models", "--downloads": "downloads"}
    fixed = [part for option, name in places.items() for part in (option, tmp_path / name)]
    with script_runner(capsys, network=True) as run_script:
        yield functools.partial(run_script, "data_manager_dnalm", *fixed)


@pytest.fixture
def endpoint() -> "Iterator[EndpointServer]":
    """Run an inference endpoint on this machine."""
    from endpoint import serving

    with serving() as endpoint:
        yield endpoint


@pytest.fixture
def run_remote(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run dnalm_remote_embed's entry script in this process, with short waits: exit code, stdout, stderr."""
    import dnalm_remote_embed
    import huggingface_hub
    from dnalm.engine import asking

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # read when it was imported, long ago
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.001)
    for name in (*dnalm_remote_embed.FORGOTTEN, "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")  # so that what the script changes is changed back
    monkeypatch.delenv("HF_TOKEN")
    with script_runner(capsys, network=True) as run_script:
        yield functools.partial(run_script, "dnalm_remote_embed")


@contextlib.contextmanager
def script_runner(capsys: pytest.CaptureFixture[str], *, network: bool = False) -> Iterator[Run]:
    """Yield a function that runs an entry script in this process: its name and options; exit code, stdout, stderr."""
    from dnalm.entry_point import run

    handler = signal.getsignal(signal.SIGTERM)

    def call(script: str, *arguments: object) -> tuple[int, str, str]:
        module = importlib.import_module(script)
        capsys.readouterr()  # of fixtures that were made before
        code = run(module.parser(), module.main, [str(argument) for argument in arguments], network=network)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A copy of what the Tool Shed's repositories, of the suite and of the data manager, are made of."""
    # planemo writes an archive beside the folder it is made of.
    suite = tmp_path_factory.mktemp("tool-shed") / "suite"
    shutil.copytree(REPOSITORY, suite, symlinks=True, ignore=NOT_SHIPPED)
    return {"suite": suite, "data_manager": suite / "tools" / "data_manager"}


@pytest.fixture(scope="session")
def archives(repositories: dict[str, Path]) -> dict[str, Path]:
    """Build the Tool Shed's archives, of the suite and of the data manager, and unpack each into an empty folder."""
    folder = repositories["suite"].parent
    unpacked = {}
    for name, place in repositories.items():
        planemo = ENVIRONMENTS / "planemo" / "bin" / "planemo"
        subprocess.run([planemo, "shed_build", place], check=True, cwd=folder, stdin=subprocess.DEVNULL)
        unpacked[name] = folder / "unpacked" / name
        with tarfile.open(place.with_name(f"{name}.tar.gz")) as archive:
            archive.extractall(unpacked[name], filter="data")
    return unpacked


@pytest.fixture(scope="session")
def announce(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say a line at once, whatever pytest captures; one of several processes has no terminal, and says nothing."""
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return lambda line: None
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(line)

    return say


@pytest.fixture(scope="session")
def shipped(archives: dict[str, Path]) -> Path:
    """What the Tool Shed ships of the suite."""
    return archives["suite"]


@pytest.fixture(scope="session")
def shipped_data_manager(archives: dict[str, Path]) -> Path:
    """What the Tool Shed ships of the data manager."""
    return archives["data_manager"]


@pytest.fixture(scope="session")
def galaxys_hub(model_folder: Callable[[str], Path]) -> "Iterator[Hub]":
    """Run a hub that the running Galaxy's jobs know: tiny models under the names of published and of other models."""
    from hub import serving

    with serving() as hub:
        hub.tokens = {"hf_of_the_admin", "hf_of_credentials"}
        hub.let_in = {"hf_of_the_admin"}
        hub.add("RaphaelMourad/Mistral-DNA-v1-1M-hg38", model_folder("mixtral"))
        hub.add("somebody/plants", model_folder("esm-absolute"), card={"license": "cc-by-nc-sa-4.0"}, gated=True)
        yield hub


@pytest.fixture(scope="session")
def galaxy(shipped: Path, shipped_data_manager: Path, galaxys_hub: "Hub") -> "Iterator[GalaxyServer]":
    """A running Galaxy with the shipped suite and data manager, and nothing of the checkout."""
    from server import GalaxyServer

    with GalaxyServer(
        REPOSITORY / ".galaxy" / "test",
        shipped,
        ENVIRONMENTS,
        data_manager=shipped_data_manager,
        job_environment={"HF_ENDPOINT": galaxys_hub.url, "HF_TOKEN": "hf_of_the_admin"},
    ) as server:
        yield server
