"""Pretraining from the entry script: what is learnt, logged and written, and how a job goes on."""

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TEST_DATA, Run
from dnalm.models.presets import PRESETS
from dnalm.models.registry import load_language_model
from dnalm.models.sources import open_model

MITOCHONDRION = TEST_DATA / "human_mitochondrion.fasta"
SMALL = ("--window", 64, "--batch-size", 4, "--threads", 1, "--evaluate-every", 10)


def rows(path: Path) -> list[dict[str, str]]:
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


@pytest.mark.slow
def test_two_runs_with_one_seed_are_the_same_bytes(run_tool: Run, tmp_path: Path) -> None:
    names = ("output", "checkpoint", "log", "figure", "card")
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        outputs = [part for name in names for part in (f"--{name}", tmp_path / run / name)]
        options = ("--sequences", MITOCHONDRION, *SMALL, "--max-steps", 20)
        assert run_tool("pretrain", *options, *outputs)[0] == 0
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.mark.slow
# An epoch has 58 steps, or 20 of three batches each, the last step of two.
@pytest.mark.parametrize(
    ("extra", "end", "stop"),
    [
        ((), "time limit", 33),
        ((), "signal", 58),
        (("--reverse-complement", "--gradient-accumulation", 3), "time limit", 33),
        (("--reverse-complement", "--gradient-accumulation", 3), "signal", 40),
        (("--batching", "packed"), "signal", 33),
    ],
)
def test_resuming_gives_the_weights_and_the_log_of_the_uninterrupted_run(
    run_tool: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: tuple[object, ...],
    end: str,
    stop: int,
) -> None:
    options = ("--sequences", MITOCHONDRION, *SMALL, "--max-steps", 80, *extra)
    whole = run_tool(
        "pretrain",
        *options,
        "--output",
        tmp_path / "whole",
        "--checkpoint",
        tmp_path / "end",
        "--log",
        tmp_path / "log",
    )
    assert whole[0] == 0
    from dnalm.engine import training_callbacks

    steps: list[int] = []
    usual = training_callbacks.Limits.on_step_end

    def counting(self: object, args: object, state: object, control: object, **kwargs: object) -> None:
        steps.append(1)
        if len(steps) == stop and end == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        elif len(steps) == stop:
            monkeypatch.setattr(self, "_start", -1e9)
        usual(self, args, state, control, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(training_callbacks.Limits, "on_step_end", counting)
    limited = ("--time-limit", 1, "--output", tmp_path / "half", "--checkpoint", tmp_path / "middle")
    code, out, _ = run_tool("pretrain", *options, *limited, "--log", tmp_path / "half log")
    monkeypatch.undo()
    assert code == 0
    assert f"Stopped after step {stop}: " in out
    assert rows(tmp_path / "half log")[-1]["split"] == f"stopped: {end}"
    resumed = (
        "--resume-from",
        tmp_path / "middle",
        "--output",
        tmp_path / "resumed",
        "--log",
        tmp_path / "resumed log",
    )
    assert run_tool("pretrain", *options, *resumed)[0] == 0
    first, second = (open_model(tmp_path / name).read_tensors() for name in ("whole", "resumed"))
    assert all(torch.equal(first[name], tensor) for name, tensor in second.items())
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()
    assert (tmp_path / "log").read_bytes() == (tmp_path / "resumed log").read_bytes()


@pytest.mark.slow
def test_tiny_data_are_learnt_by_heart(run_tool: Run, tmp_path: Path) -> None:
    unit = "".join(np.random.default_rng(1).choice(list("ACGT"), 37))
    (tmp_path / "repeat.fasta").write_text("".join(f">r{n}\n{(unit * 8)[n : n + 200]}\n" for n in range(30)))
    options = ("--sequences", tmp_path / "repeat.fasta", "--split", "random", "--window", 200, "--max-steps", 200)
    assert run_tool("pretrain", *options, "--threads", 1, "--output", tmp_path / "m", "--log", tmp_path / "log")[0] == 0
    last = [row for row in rows(tmp_path / "log") if row["split"] == "training"][-1]
    assert float(last["bits_per_base"]) < 0.15


def test_the_script_offers_the_presets_that_there_are() -> None:
    import dnalm_pretrain

    assert tuple(PRESETS) == dnalm_pretrain.PRESETS


@pytest.mark.slow
def test_bits_per_base_are_those_of_the_model_token_by_token(run_tool: Run, tmp_path: Path) -> None:
    (tmp_path / "s.fasta").write_text(">a\nACGTTGCAACGATNTACCGATAGGAT\n>b\nTTGACCATGACCAGTACCATTAGACAT\n")
    options = ("--sequences", tmp_path / "s.fasta", "--split", "record", "--max-steps", 1, "--window", 30)
    assert run_tool("pretrain", *options, "--output", tmp_path / "m", "--log", tmp_path / "log")[0] == 0
    (row,) = [row for row in rows(tmp_path / "log") if row["split"] == "validation"]
    model = load_language_model(open_model(tmp_path / "m"), head=True)
    found = []
    for sequence in ("ACGTTGCAACGATNTACCGATAGGAT", "TTGACCATGACCAGTACCATTAGACAT"):
        (encoding,) = model.encode([sequence])
        logits = model.logits(torch.from_numpy(encoding.ids)[None], None)[0].log_softmax(-1)
        bits = [
            -float(logits[place - 1, encoding.ids[place]]) / math.log(2)
            for place in range(1, len(encoding))
            if sequence[encoding.starts[place] : encoding.ends[place]] != "N"
        ]
        found.append(sum(bits) / len(bits))
    assert any(abs(float(row["bits_per_base"]) - bits) < 1e-4 for bits in found)


@pytest.mark.slow
def test_a_masked_models_bits_per_base_have_a_name_of_their_own(run_tool: Run, tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    (tmp_path / "c.json").write_text(json.dumps({"model_type": "modernbert"} | sizes))
    model = ("--model-config", tmp_path / "c.json", "--objective", "masked", "--max-steps", 20)
    outputs = ("--output", tmp_path / "m", "--log", tmp_path / "log")
    code, out, error = run_tool("pretrain", "--sequences", MITOCHONDRION, *SMALL, *model, *outputs)
    assert code == 0, error
    assert "bits a masked base" in out
    assert "masked_bits_per_base" in rows(tmp_path / "log")[0]
    assert "bits_per_base" not in rows(tmp_path / "log")[0]


@pytest.mark.slow
def test_a_card_says_what_the_model_is_and_how_it_was_measured(run_tool: Run, tmp_path: Path) -> None:
    options = ("--sequences", MITOCHONDRION, *SMALL, "--max-steps", 10, "--output", tmp_path / "m")
    assert run_tool("pretrain", *options, "--card", tmp_path / "card", "--log", tmp_path / "log")[0] == 0
    card = (tmp_path / "card").read_text()
    assert card.startswith("---\ntags: [dna, biology]\n---\n\n# dnalm-demo\n\n")
    assert "A DNA language model (llama, 107,456 parameters) that reads 10 words, 1,024 at most at once" in card
    assert "trained from nothing" in card
    bits = next(row["bits_per_base"] for row in rows(tmp_path / "log") if row["split"] == "validation")
    assert f"- Bits per base of the best model (step 10) on validation: {float(bits):.4f}\n" in card
    assert "2 is chance" in card
    assert "Validation is a run of neighbouring windows, with a gap of one window around it" in card
    assert "\n- seed: 0\n" in card
    more = ("--sequences", MITOCHONDRION, *SMALL, "--max-steps", 1, "--continue-from", tmp_path / "m")
    assert run_tool("pretrain", *more, "--output", tmp_path / "more", "--card", tmp_path / "card")[0] == 0
    assert "trained further from another model" in (tmp_path / "card").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "custom"])
def test_every_preset_trains_on_after_it_was_measured(
    run_tool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    """Each architecture with its objective and words, made small; what measuring leaves behind must not stop it."""
    small = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    config = {name: min(value, 8) if "num_" in name else value for name, value in PRESETS[preset].config.items()}
    config |= small | {"num_attention_heads": 2}
    config |= {"num_key_value_heads": 2, "head_dim": 16} if "num_key_value_heads" in config else {}
    monkeypatch.setattr("dnalm.tasks.pretraining_tokens.VOCABULARY", 64)
    (tmp_path / "c.json").write_text(json.dumps(config))
    model = ("--preset", preset, "--model-config", tmp_path / "c.json", "--window", 90, "--batch-size", 4)
    training = ("--sequences", MITOCHONDRION, "--max-steps", 6, "--evaluate-every", 2, "--threads", 1)
    outputs = ("--output", tmp_path / "m", "--log", tmp_path / "log", "--checkpoint", tmp_path / "checkpoint")
    code, _, error = run_tool("pretrain", *model, *training, *outputs)
    assert code == 0, error
    checkpoint = open_model(tmp_path / "checkpoint")
    moments = [name for name in checkpoint.read_training_tensors() if name.endswith(".exp_avg")]
    trained = load_language_model(checkpoint, head=True).with_head
    assert trained is not None
    assert len(moments) == len(list(trained.parameters()))
    losses = [float(row["loss"]) for row in rows(tmp_path / "log") if row["split"] == "validation"]
    assert len(losses) == 3
    assert losses[2] < losses[0]
