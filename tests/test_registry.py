import subprocess
import sys

import pytest
from diffusers import DPMSolverMultistepScheduler

from synthset import InputError
from synthset.models.skip_fusion import ScaleU
from synthset.registry import (
    OPTIMIZERS,
    PREDICTION_TYPES,
    SCENES,
    SCHEDULERS,
    SKIP_FUSIONS,
    TIMESTEP_DENSITIES,
    VARIANTS,
    Import,
    Registry,
    Variant,
)

every_registry = pytest.mark.parametrize(
    "registry",
    [VARIANTS, SKIP_FUSIONS, SCHEDULERS, OPTIMIZERS, TIMESTEP_DENSITIES, PREDICTION_TYPES, SCENES],
    ids=lambda registry: registry.kind,
)

LIGHT = """
import importlib.util, pathlib, sys, types
root = pathlib.Path(importlib.util.find_spec("synthset").origin).parent
package = sys.modules["synthset"] = types.ModuleType("synthset")  # without what the package itself imports
package.__path__ = [str(root)]
from synthset.registry import PREDICTION_TYPES, SCHEDULERS, SKIP_FUSIONS, VARIANTS
print(*VARIANTS, *SKIP_FUSIONS, *SCHEDULERS, *PREDICTION_TYPES)
print(sorted({"torch", "diffusers", "numpy"} & set(sys.modules)))
"""


def test_names_are_known_without_torch():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "two_encoder shared_encoder concat scale_u zero_conv concat ddpm ddim dpmsolver++ unipc "
        "epsilon v_prediction sample",
        "[]",
    ]


@every_registry
def test_every_entry_can_be_looked_up(registry):
    assert len(registry) == len(tuple(registry)) >= 2
    for name in registry:
        assert name in registry and registry[name] is not None


@every_registry
def test_an_unknown_name_lists_the_known(registry):
    assert "none" not in registry
    with pytest.raises(InputError) as error:
        registry["none"]
    assert str(error.value) == f"{registry.kind} is 'none'; use one of {', '.join(registry)}"


def test_an_entry_is_an_object_or_an_import_with_settings():
    assert SKIP_FUSIONS["scale_u"] is ScaleU
    assert VARIANTS["concat"] == Variant(streams=1, encoders=1, cross_attention=False)
    scheduler = SCHEDULERS["ddim"](num_train_timesteps=10)
    assert type(scheduler) is DPMSolverMultistepScheduler and scheduler.config.solver_order == 1
    assert Registry("x", {"a": Import("math:pi")})["a"] == pytest.approx(3.14159, abs=1e-5)
