"""A tool that is killed at a random moment leaves no output that looks whole and is not, and the next run succeeds."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, TEST_DATA
from endpoint import serving

FULL = os.environ.get("DNALM_FUZZ") == "full"
KILLS = 6 if FULL else 2  # of each tool, SIGKILL and SIGTERM in turn
D = TEST_DATA
WINDOWS, MITOCHONDRION = f"--sequences {D}/two_genomes.fasta", f"{D}/human_mitochondrion.fasta"
FEATURES = f"--annotation {D}/mitochondrial_features.bed"
DEMO, RANDOM, SEGMENTER = (f"--model {D}/{name}.safetensors" for name in ("demo_model", "random_model", "segmenter"))
ONE = "--threads 1"
TRAINING = f"--max-steps 4 --evaluate-every 2 --output m --checkpoint c --log log --figure figure {ONE}"
PUBLISHED = f"{D}/published_model"


@dataclass(frozen=True)
class Tool:
    """An entry script, its options, its outputs, and those of them that are written before the job ends."""

    script: str
    options: str
    outputs: tuple[str, ...]
    meanwhile: tuple[str, ...] = ()  # whole, but not those of the end
    keeps: bool = False  # after SIGTERM it exits with 0 and keeps its outputs


TRAINED = ("m", "c", "log", "figure")
TOOLS = [
    Tool("dnalm_split", f"{WINDOWS} --shards 3 --output-directory s --table t", ("s", "t")),
    Tool("dnalm_merge", f"--shards {D}/shards/embeddings_1.h5ad --output m", ("m",)),
    Tool("dnalm_embed", f"{WINDOWS} --representation kmer --output e --summary s", ("e", "s")),
    Tool("dnalm_embed", f"{WINDOWS} {SEGMENTER} --output e --output-format npz --summary s {ONE}", ("e", "s")),
    Tool("dnalm_attention", f"{WINDOWS} --ids human_600001 {DEMO} --layers-heads 1.4 --output a {ONE}", ("a",)),
    Tool("dnalm_compare_scores", f"--tables {D}/scores_groups.tsv --group-column consequence --output g", ("g",)),
    Tool("dnalm_embed_cells", f"--cells {D}/cells.h5ad --model {D}/scgpt.safetensors --output e {ONE}", ("e",)),
    Tool("dnalm_evaluate_segments", f"--tracks {D}/tracks/CDS.bw {FEATURES} --output e --figure f", ("e", "f")),
    Tool("dnalm_export_model", f"{RANDOM} --output-directory x --summary s", ("x", "s")),
    Tool(
        "dnalm_finetune",
        f"{WINDOWS} --labels {D}/two_genomes_labels.tsv {DEMO} --method lora {TRAINING} --metrics metrics",
        (*TRAINED, "metrics"),
        ("c",),
        keeps=True,
    ),
    Tool(
        "dnalm_finetune_segments",
        f"--genome {MITOCHONDRION} {FEATURES} {RANDOM} {TRAINING}",
        TRAINED,
        ("c",),
        keeps=True,
    ),
    Tool("dnalm_generate", f"{DEMO} --number 20 --output g {ONE}", ("g",)),
    Tool(
        "dnalm_import_model",
        f"--config {PUBLISHED}/config.json --weights {PUBLISHED}/model.safetensors "
        f"--tokenizer-files {PUBLISHED}/vocab.txt --tokenizer-files {PUBLISHED}/tokenizer_config.json "
        "--output m --summary s",
        ("m", "s"),
    ),
    Tool("dnalm_predict", f"{WINDOWS} --model {D}/classifier.safetensors --output p {ONE}", ("p",)),
    Tool(
        "dnalm_pretrain",
        f"--sequences {MITOCHONDRION} --window 64 --preset demo {TRAINING}",
        TRAINED,
        ("c",),
        keeps=True,
    ),
    Tool("dnalm_project", f"--embeddings {D}/two_genomes_embeddings.h5ad --output m --table t", ("m", "t")),
    Tool("dnalm_remote_embed", f"{WINDOWS} --endpoint URL --consent --output e --failed f", ("e", "f"), keeps=True),
    Tool(
        "dnalm_score_variants",
        f"--variants {D}/mitochondrial_variants.vcf --reference {MITOCHONDRION} {DEMO} --output-table t "
        f"--output-vcf v.vcf.gz {ONE}",
        ("t", "v.vcf.gz"),
    ),
    Tool(
        "dnalm_segment",
        f"--sequences {MITOCHONDRION} {SEGMENTER} --calls c --tracks tracks {ONE}",
        ("c", "tracks"),
    ),
    Tool(
        "dnalm_train_tokenizer", f"{WINDOWS} --kind bpe --vocabulary-size 300 --output t --table table", ("t", "table")
    ),
    Tool(
        "data_manager_dnalm",
        f"--source folder --folder {PUBLISHED} --licence MIT --output row.json --output-directory models",
        ("row.json", "models"),
    ),
]
QUICK = TOOLS[:3]  # without a model
UNFINISHED = re.compile(r"\..+\.partial.*|\.unfinished|\.downloads|\..+\.journal")


def start(tool: Tool, folder: Path, url: str) -> "subprocess.Popen[str]":
    """Start a tool in a folder with one for temporary files beside it."""
    for path in (folder, folder.with_name(f"{folder.name} tmp")):
        path.mkdir(exist_ok=True)
    script = REPOSITORY / "scripts" / f"{tool.script}.py"
    command = [sys.executable, str(script), *shlex.split(tool.options.replace("URL", url))]
    environment = os.environ | {"TMPDIR": str(folder.with_name(f"{folder.name} tmp"))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]


def contents(path: Path) -> dict[str, bytes]:
    """Return all files of an output, which may be a folder, by their path."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def written(tool: Tool, folder: Path) -> dict[str, dict[str, bytes]]:
    """Return the outputs that are there, and check that nothing else but what is hidden is."""
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= set(tool.outputs)
    found = {name: contents(folder / name) for name in tool.outputs if (folder / name).exists()}
    if tool.script == "data_manager_dnalm" and "models" in found:  # made at once; the model's folder in it at the end
        visible = {name: content for name, content in found["models"].items() if not name.startswith(".")}
        found = {name: content for name, content in (found | {"models": visible}).items() if content}
    return found


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def check_killed(tool: Tool, folder: Path, sent: signal.Signals, code: int, whole: dict[str, dict[str, bytes]]) -> None:
    """Check what a tool left: outputs are whole or not there, and after SIGTERM there is nothing else."""
    kept = tool.keeps and code == 0
    for name, found in written(tool, folder).items():
        if not kept and name not in tool.meanwhile:
            assert found == whole[name], f"{name} is not whole"
    temporary = folder.with_name(f"{folder.name} tmp")
    if sent == signal.SIGTERM:
        assert [name for name in hidden(folder) if not name.endswith(".journal")] == []
        assert list(temporary.iterdir()) == []
    assert all(UNFINISHED.fullmatch(name) for name in hidden(folder))


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, id=f"{tool.script} {tool.outputs[0]}")
        for number, tool in enumerate(TOOLS)
        if FULL or tool in QUICK  # all take minutes: `make fuzz`
    ],
)
def test_a_tool_that_is_killed_leaves_nothing_that_looks_whole(tmp_path: Path, number: int) -> None:
    tool = TOOLS[number]
    with serving() as endpoint:
        endpoint.seconds = 0.02
        url = f"{endpoint.url}/tokens"
        began = time.monotonic()
        job = start(tool, tmp_path / "whole", url)
        _, problem = job.communicate(timeout=600)
        assert (job.returncode, problem) == (0, "")
        seconds = time.monotonic() - began
        whole = written(tool, tmp_path / "whole")
        assert set(whole) == set(tool.outputs)
        assert hidden(tmp_path / "whole") == list((tmp_path / "whole tmp").iterdir()) == []
        generator = np.random.default_rng(number)
        for kill in range(KILLS):
            sent = (signal.SIGKILL, signal.SIGTERM)[kill % 2]
            folder = tmp_path / f"killed {kill}"
            job = start(tool, folder, url)
            # More often near the end, where outputs are written and renamed.
            time.sleep(seconds * float(generator.beta(2, 1)))
            job.send_signal(sent)
            _, problem = job.communicate(timeout=600)
            assert "Traceback" not in problem
            check_killed(tool, folder, sent, job.returncode, whole)
            for name in tool.outputs:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            job = start(tool, folder, url)
            _, problem = job.communicate(timeout=600)
            assert (job.returncode, problem) == (0, "")
            assert written(tool, folder) == whole
            assert hidden(folder) == []
            left = [path.name for path in folder.with_name(f"{folder.name} tmp").iterdir()]
            assert not any(name.startswith(".dnalm.") for name in left)
