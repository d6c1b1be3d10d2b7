"""What a training makes small: the contract, and language modelling. What labels ask for stands in `supervision`."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnalm.engine.training_data import Batch

NATS_A_BIT = math.log(2)


class Losses(NamedTuple):
    """What a model loses on a batch.

    Attributes:
        total: the weighted sum of the losses, with its gradient; a scalar.
        sums: what `measures` needs of the batch, without gradients, float64; shape (quantities,). The first is the sum
            of the losses.
    """

    total: Tensor
    sums: Tensor


class Objective(Protocol):
    """What is made small.

    Attributes:
        quantities: how many sums there are.
        headline: the measure that people follow, and its unit as it is told.
    """

    quantities: int
    headline: tuple[str, str]

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Run the model on a batch."""
        ...

    def weight(self, batch: Batch) -> Tensor:
        """Return the weights of a batch's losses added up: a step divides by those of all its batches."""
        ...

    def measures(self, sums: Sequence[float]) -> dict[str, float]:
        """Return name → value from the sums of many batches; `loss`, the mean that is made small, is the first."""
        ...


class LanguageModelling:
    """Predict tokens; the sums are nats, tokens and bases predicted."""

    quantities = 3

    def __init__(self, masked: bool) -> None:
        self.headline = ("bits_per_base", "bits a masked base" if masked else "bits a base")

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the weighted nats of all targets."""
        nats, predicted = nats_a_place(model, batch)
        with torch.no_grad():
            sums = [torch.where(predicted, values, 0).double().sum() for values in (nats, predicted, batch["bases"])]
        return Losses((nats * batch["weights"]).sum(), torch.stack(sums))

    def weight(self, batch: Batch) -> Tensor:
        """Return the weights of the targets added up."""
        return batch["weights"].sum()

    def measures(self, sums: Sequence[float]) -> dict[str, float]:
        """Return loss (nats a token), perplexity, and bits a base."""
        nats, tokens, bases = sums
        loss = nats / tokens if tokens else math.nan
        perplexity = math.inf if loss >= 700 else math.exp(loss)
        bits = nats / NATS_A_BIT / bases if bases else math.nan
        return {"loss": loss, "perplexity": perplexity, "bits_per_base": bits}


def nats_a_place(model: nn.Module, inputs: Batch) -> tuple[Tensor, Tensor]:
    """Return −log p of the target at every place, and which places are predicted; shape (rows, tokens) each."""
    places = {"position_ids": inputs["position_ids"]} if "position_ids" in inputs else {}
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **places).logits
    targets = inputs["targets"]
    nats = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return nats.view(targets.shape), inputs["weights"] > 0
