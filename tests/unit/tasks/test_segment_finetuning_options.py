"""Options of the training of a segmenter: what the script offers, and what a checkpoint depends on."""

from dataclasses import fields
from pathlib import Path

import dnalm_finetune_segments
from dnalm.tasks.segment_finetuning_options import DECISIVE, SegmentFinetuningOptions


def test_the_script_offers_these_options_with_these_defaults() -> None:
    required = ["--model", "model", "--genome", "genome", "--annotation", "annotation", "--output", "out"]
    arguments = dnalm_finetune_segments.parser().parse_args(required)
    expected = SegmentFinetuningOptions(Path("model"), Path("genome"), Path("annotation"), Path("out"))
    assert SegmentFinetuningOptions(**vars(arguments)) == expected


def test_a_checkpoint_depends_on_all_options_but_these() -> None:
    files = {
        "model",
        "genome",
        "annotation",
        "output",
        "regions",
        "resume_from",
        "checkpoint",
        "log",
        "figure",
        "metrics",
    }
    of_this_job = {"name", "patience", "time_limit", "device", "threads", "batch_tokens"}
    # The fingerprint of the data covers the features.
    assert {field.name for field in fields(SegmentFinetuningOptions)} - set(DECISIVE) == {
        "features"
    } | files | of_this_job
