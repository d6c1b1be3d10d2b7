"""The state of a training as tensors and JSON, from which another trainer goes on."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dnalm.engine.checkpoints import TrainingState, capture, steps_done, unfold
from dnalm.errors import UserError
from numpy._core.multiarray import _reconstruct  # type: ignore[import-not-found,attr-defined,unused-ignore]


def trained() -> tuple[torch.optim.Optimizer, Any]:
    """An optimizer with moments, and its schedule, after three steps."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    groups: list[dict[str, Any]] = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias]}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        schedule.step()
    return optimizer, schedule


def captured(processes: int = 1) -> TrainingState:
    states = [torch.Generator().manual_seed(number).get_state() for number in range(processes)]
    return capture(*trained(), {"global_step": 3, "epoch": 0.5}, states)


def test_a_state_is_tensors_and_json_that_another_optimizer_goes_on_from(tmp_path: Path) -> None:
    unfold(captured(), tmp_path)
    optimizer, schedule = trained()
    fresh = torch.optim.AdamW([{"params": group["params"]} for group in optimizer.param_groups], lr=9.0)
    fresh.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for one, other in zip(optimizer.state.values(), fresh.state.values(), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert [group["lr"] for group in fresh.param_groups] == [group["lr"] for group in optimizer.param_groups]
    assert [group["weight_decay"] for group in fresh.param_groups] == [0.1, 0.01]
    loaded = torch.load(tmp_path / "scheduler.pt", weights_only=True)
    assert loaded["last_epoch"] == schedule.state_dict()["last_epoch"]


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    random.seed(5)
    np.random.seed(6)
    state = capture(*trained(), {"global_step": 3}, [torch.Generator().manual_seed(7).get_state()])
    np.random.random()
    unfold(state, tmp_path)
    expected = (random.random(), torch.rand(1, generator=torch.Generator().manual_seed(7)).item())
    with torch.serialization.safe_globals([_reconstruct, np.ndarray, np.dtype, np.dtypes.UInt32DType]):
        rng = torch.load(tmp_path / "rng_state.pth", weights_only=True)
    random.setstate(rng["python"])
    generator = torch.Generator()
    generator.set_state(rng["cpu"])
    assert (random.random(), torch.rand(1, generator=generator).item()) == expected
    np.random.seed(6)
    first = np.random.random()
    np.random.set_state(rng["numpy"])
    assert np.random.random() == first


def test_each_process_has_random_numbers_of_its_own(tmp_path: Path) -> None:
    unfold(captured(2), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "optimizer.pt",
        "scheduler.pt",
        "rng_state_0.pth",
        "rng_state_1.pth",
        "trainer_state.json",
    }


@pytest.mark.parametrize("missing", ["scalars", "groups", "schedule", "python_random", "numpy_random", "trainer"])
def test_a_state_that_lacks_something_is_refused(tmp_path: Path, missing: str) -> None:
    state = captured()
    facts = {name: value for name, value in state.facts.items() if name != missing}
    with pytest.raises(UserError, match="state of training is damaged"):
        unfold(TrainingState(state.tensors, facts), tmp_path)


def test_a_state_without_random_numbers_is_refused(tmp_path: Path) -> None:
    state = captured()
    tensors = {name: tensor for name, tensor in state.tensors.items() if not name.startswith("random.")}
    with pytest.raises(UserError, match="state of training is damaged"):
        unfold(TrainingState(tensors, state.facts), tmp_path)


def test_a_state_says_how_many_steps_are_done() -> None:
    assert steps_done(captured()) == 3
    damaged: list[Any] = [{}, {"trainer": {}}, {"trainer": {"global_step": "3"}}, {"trainer": {"global_step": -1}}, 3]
    for facts in damaged:
        with pytest.raises(UserError, match="state of training is damaged"):
            steps_done(TrainingState({}, facts))
