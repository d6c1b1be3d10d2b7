"""Every command of the README is run by a test, or is what runs the tests."""

import re
from pathlib import Path

import anndata
import pytest
from conftest import REPOSITORY, Run
from dnalm.models.sources import open_model
from safetensors.torch import load_file
from tokenizers import Tokenizer

README = (REPOSITORY / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
RUN_ELSEWHERE = {
    "make demo": "tests/galaxy/test_demo.py",
    "make test": ".ci/run",
    # The endpoint is an example.
    "python scripts/dnalm_remote_embed.py --sequences test-data/two_genomes.fa"
    "sta --endpoint https://our-endpoint.example.org --consent --output remote.h5ad": (
        "tests/unit/tasks/test_remote_embedding.py"
    ),
    "pip install -r scripts/requirements.txt": "Makefile, for the tools' environment",
}


@pytest.mark.slow
def test_the_commands_of_the_readme_work_one_after_the_other(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which saves seconds of imports for each; every form's test in Galaxy is a process of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test-data").symlink_to(REPOSITORY / "test-data")
    for command in COMMANDS:
        if command not in RUN_ELSEWHERE:
            python, script, *arguments = command.split()
            assert (python, Path(script).parent, Path(script).suffix) == ("python", Path("scripts"), ".py")
            code, _, error = run_tool(Path(script).stem.removeprefix("dnalm_"), *arguments)
            assert (code, error) == (0, ""), command
    assert anndata.read_h5ad(tmp_path / "embeddings.h5ad").shape == (80, 64)
    assert len((tmp_path / "summary.tsv").read_text().splitlines()) == 81
    assert len((tmp_path / "map.tsv").read_text().splitlines()) == 81
    assert len(list((tmp_path / "shards").iterdir())) == 3
    assert anndata.read_h5ad(tmp_path / "merged.h5ad").shape == (80, 64)
    assert len((tmp_path / "comparisons.tsv").read_text().splitlines()) == 7
    assert len((tmp_path / "classification.tsv").read_text().splitlines()) == 6
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert len(Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab()) == 4096
    assert (tmp_path / "tokens.tsv").read_text().startswith("token\tlength\tcount\tshare\n")
    assert len((tmp_path / "scores.tsv").read_text().splitlines()) == 36
    assert sorted(path.name for path in (tmp_path / "tracks").iterdir()) == ["CDS.bw", "rRNA.bw", "tRNA.bw"]
    assert (tmp_path / "segments.bed").read_text().startswith("human_mitochondrion\t")
    assert (tmp_path / "segments.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "segments.tsv").read_text().splitlines()) == 2
    assert (tmp_path / "generated.fasta").read_text().count(">") == 3
    assert open_model(tmp_path / "finetuned.safetensors").labels == ["ecoli", "human"]
    assert len((tmp_path / "held_out.tsv").read_text().splitlines()) == 17
    assert len((tmp_path / "predictions.tsv").read_text().splitlines()) == 81
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")
    assert open_model(tmp_path / "pretrained.safetensors").name == "dnalm-demo"
    published = REPOSITORY / "test-data" / "published_model" / "model.safetensors"
    assert load_file(tmp_path / "exported" / "model.safetensors").keys() == load_file(published).keys()


def test_commands_run_elsewhere_are_in_the_readme() -> None:
    assert set(RUN_ELSEWHERE) <= set(COMMANDS)


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (REPOSITORY / target).exists()


def test_its_table_lists_every_tool() -> None:
    assert set(re.findall(r"^\| `(dnalm_\w+)`", README, re.MULTILINE)) == {
        form.stem for form in (REPOSITORY / "tools").glob("dnalm_*.xml")
    }
