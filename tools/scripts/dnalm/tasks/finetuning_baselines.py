"""What a model must beat: the commonest class, the GC content, k-mers, and its own frozen hidden states."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnalm.methods import linear_models
from dnalm.methods.baselines import gc_content, kmer_frequencies
from dnalm.methods.linear_models import LinearModel
from dnalm.methods.splits import TEST, TRAIN, VALIDATE
from dnalm.models.head_config import HeadFacts
from dnalm.tasks.finetuning_options import FinetuningOptions
from dnalm.tasks.finetuning_results import Judgement, judge
from dnalm.tasks.finetuning_split import Dataset

KMERS = (4, 6)  # lengths, of which cross-validation chooses


def head_facts(dataset: Dataset) -> HeadFacts:
    """Return what is known of a head before it is trained; quantities are standardised as those of training are."""
    if dataset.task != "regress":
        return HeadFacts(dataset.task, dataset.labels)
    training = dataset.targets[dataset.of(TRAIN)].astype(np.float64)
    mean, scale = training.mean(axis=0), training.std(axis=0)
    return HeadFacts(dataset.task, dataset.labels, target_mean=tuple(mean.tolist()), target_scale=tuple(scale.tolist()))


def standardised(dataset: Dataset) -> NDArray[Any]:
    """Return the targets as a head learns them."""
    facts = head_facts(dataset)
    if facts.target_mean is None or facts.target_scale is None:
        return dataset.targets
    return (dataset.targets - np.array(facts.target_mean)) / np.array(facts.target_scale)


def probe(options: FinetuningOptions, dataset: Dataset, features: Any) -> LinearModel:
    """Return logistic or ridge regression on features of all examples, fitted with those that train."""
    rows = dataset.of(TRAIN)
    return linear_models.fit(
        features[rows],
        standardised(dataset)[rows],
        dataset.task,
        len(dataset.labels),
        options.seed,
        None if dataset.clusters is None else dataset.clusters[rows],
        options.class_weights == "balanced",
    )


def judge_linear(method: str, dataset: Dataset, model: LinearModel, features: Any) -> Judgement:
    """Return what a linear model says of the sequences that test."""
    logits = (model.logits(features[dataset.of(side)]) for side in (VALIDATE, TEST))
    return judge(method, dataset, head_facts(dataset), *logits)


def baselines(options: FinetuningOptions, dataset: Dataset) -> list[Judgement]:
    """Return what is said without a model: by the shares of the classes, the GC content, and k-mers."""
    sequences = [example.bases for example in dataset.examples]
    nothing = np.zeros((len(sequences), 1))
    targets = standardised(dataset)[dataset.of(TRAIN)]
    constant = linear_models.constant_model(targets, dataset.task, len(dataset.labels), 1)
    found = [judge_linear("mean" if dataset.task == "regress" else "majority", dataset, constant, nothing)]
    gc = np.array([[gc_content(bases)] for bases in sequences])
    found.append(judge_linear("gc", dataset, probe(options, dataset, gc), gc))
    candidates = [(probe(options, dataset, words), words) for words in map(_kmers_of(sequences), KMERS)]
    chosen, words = min(candidates, key=lambda candidate: candidate[0].held_out_loss)
    return [*found, judge_linear("kmer", dataset, chosen, words)]


def _kmers_of(sequences: list[str]) -> Callable[[int], Any]:
    from scipy.sparse import csr_array, vstack

    def of_length(k: int) -> Any:
        return vstack([csr_array(kmer_frequencies(bases, k)[None]) for bases in sequences], format="csr")

    return of_length
