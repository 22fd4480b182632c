"""From a budget in time to a number of steps."""

import json
import math

import pytest
from accelerate import Accelerator

from synthset.arguments import TrainingArguments
from synthset.errors import InputError
from synthset.training.budget import find_budget, fit_steps, plan_steps


def arguments(**flags):
    return TrainingArguments(
        **{"dataset": "field", "output_dir": "run", "report_to": "none", "max_train_minutes": 2.0, **flags}
    )


def test_steps_validations_and_checkpoints_fill_the_time_and_do_not_exceed_it():
    args = arguments(validation_steps=30, checkpointing_steps=50)
    steps = fit_steps(args, 100.0, step=0.5, validation=2.0, checkpoint=1.0)["max_train_steps"]

    def cost(steps):
        return 0.5 * steps + 2.0 * math.ceil(steps / 30) + math.ceil(steps / 50)

    assert cost(steps) <= 100 < cost(steps + 1)


@pytest.mark.parametrize("validation, times", [(0.1, 10), (3.0, 3), (30.0, 1)])
def test_validations_take_a_tenth_of_the_time_where_the_flags_do_not_say_how_often(validation, times):
    budget = fit_steps(arguments(validation_steps=None, checkpointing_steps=None), 100.0, 0.1, validation, 0.01)
    steps = budget["max_train_steps"]
    assert math.ceil(steps / budget["validation_steps"]) == times
    assert math.ceil(steps / budget["checkpointing_steps"]) == 10
    assert budget["seconds_per_step"] * steps == pytest.approx(0.1 * steps + times * validation + 10 * 0.01)
    assert 99.5 < budget["seconds_per_step"] * steps < 100 + 1e-9


def test_the_warm_up_is_shortened_only_where_it_would_outlast_the_run():
    args = arguments(lr_warmup_steps=100, validation_steps=0, checkpointing_steps=1000)
    assert [fit_steps(args, seconds, 1.0, 0.1, 0.1)["lr_warmup_steps"] for seconds in (90.5, 120.0)] == [9, 100]


def test_steps_count_from_the_beginning_of_the_run():
    args = arguments(validation_steps=0, checkpointing_steps=1000)
    assert [fit_steps(args, 12.0, 1.0, 1.0, 1.0, done)["max_train_steps"] for done in (0, 7)] == [10, 17]


def test_a_budget_in_which_no_step_fits_is_refused_with_one_that_does():
    with pytest.raises(InputError, match="in which no step fits here: one takes 3 s, .*; 100 steps need 8.3 minutes"):
        fit_steps(arguments(validation_steps=0), -60.0, 3.0, 10.0, 5.0)


def test_a_run_takes_the_number_of_steps_that_it_began_with(tmp_path):
    args = arguments(output_dir=str(tmp_path))
    assert find_budget(args) == (0, None)
    budget = {"max_train_minutes": 2.0, "max_train_steps": 9}
    (tmp_path / "run.json").write_text(json.dumps({"legs": [], "budget": budget}))
    assert find_budget(args) == (0, budget)
    args.max_train_minutes = 3.0
    with pytest.raises(InputError, match="--max_train_minutes is 3, but .* was begun with --max_train_minutes 2; give"):
        find_budget(args)
    (tmp_path / "run.json").write_text(json.dumps({"legs": []}))
    with pytest.raises(InputError, match="was begun with a given number of steps; give that, or --new_leg"):
        find_budget(args)


def test_a_warm_up_that_a_resumed_run_is_given_anew_stays_for_the_comparison_with_the_run(tmp_path):
    args = arguments(output_dir=str(tmp_path), lr_warmup_steps=3)
    budget = {"max_train_minutes": 2.0, "max_train_steps": 9, "lr_warmup_steps": None}
    budget |= {"validation_steps": 1, "checkpointing_steps": 1}
    (tmp_path / "run.json").write_text(json.dumps({"legs": [], "budget": budget}))
    plan_steps(args, Accelerator(cpu=True), 0.0, run=None)
    assert (args.max_train_steps, args.lr_warmup_steps) == (9, 3)


def test_a_new_leg_is_measured_from_the_checkpoint_on(tmp_path):
    args = arguments(output_dir=str(tmp_path), new_leg=True)
    (tmp_path / "run.json").write_text(json.dumps({"legs": []}))
    (tmp_path / "checkpoint-6").mkdir()
    (tmp_path / "checkpoint-6" / "training_state.json").write_text(json.dumps({"global_step": 6, "files": {}}))
    assert find_budget(args) == (6, None)


def test_a_folder_of_something_else_is_refused_before_the_pace_is_measured(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="is not empty and has no run.json"):
        find_budget(arguments(output_dir=str(tmp_path)))
