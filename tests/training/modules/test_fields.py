"""Plain keywords are the fields of `Run`, by their names, types and defaults."""

from dataclasses import fields
from typing import Any, get_type_hints

import pytest
from torch import nn

from bias_lab.definition import DEFAULTS, Run, recipe
from bias_lab.errors import UserError
from bias_lab.training.modules.fields import Labelled, Training, recorded, run_of, steps_of, training_fields
from bias_lab.training.protocols.finetune import Classifier


def test_the_keywords_are_fields_of_a_run_with_their_types() -> None:
    types = {field.name: field.type for field in fields(Run)}
    for name, kind in get_type_hints(Labelled).items():
        assert types[name] == kind, name


def test_every_field_that_a_recipe_sets_is_a_training_field() -> None:
    assert set(recipe("strong")) <= set(Training.__annotations__)


def test_defaults_are_those_of_a_run_or_of_the_regime() -> None:
    run = run_of({"mixup": 0.2})
    assert (run.mixup, run.batch_size, run.mask_ratio) == (0.2, DEFAULTS["batch_size"], 0.75)
    assert run_of({}, regime="simmim").mask_ratio == 0.6
    assert run_of({"mask_ratio": 0.5}, regime="simmim").mask_ratio == 0.5


@pytest.mark.parametrize(("given", "said"), [({"mixpu": 0.2}, "did you mean 'mixup'"), ({"mixup": -1}, "is negative")])
def test_a_misspelt_field_or_a_wrong_value_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        run_of(given)


def test_steps_are_given_or_follow_from_the_images_seen() -> None:
    fields = dict(samples_seen=100, batch_size=16)
    assert steps_of(None, fields, run_of(fields)) == 7
    assert steps_of(3, fields, run_of(fields)) == 3
    assert steps_of(None, {}, run_of({})) is None


def test_a_module_made_from_a_model_records_how_its_backbone_is_made_again() -> None:
    run = Run(dataset="d", backbone="tests.training.tiny:tiny", size=1, learning_rate=1e-3, ema=0.9)
    model = nn.Linear(1, 1)
    module = Classifier(model, **training_fields(run))
    recorded(module, run, classes=10, channels=1, image_size=28, drop_path=0.0)
    assert {"backbone": run.backbone, "classes": 10, "ema": 0.9}.items() <= dict(module.hparams).items()
    recorded(model, run, classes=10, channels=1, image_size=28, drop_path=0.0)  # no LightningModule
