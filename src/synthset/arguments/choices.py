"""Values that flags choose from, known without importing the library that implements them."""

from typing import TYPE_CHECKING, Literal, TypeAlias

from .. import registry

MixedPrecision: TypeAlias = Literal["no", "fp16", "bf16", "auto"]
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
# accelerate's, of accelerate.utils.LoggerType
TRACKERS = ("all", "tensorboard", "wandb", "comet_ml", "aim", "clearml", "dvclive", "mlflow", "swanlab", "trackio")

if TYPE_CHECKING:  # a type checker does not read registries
    Variant: TypeAlias = str
    SkipFusion: TypeAlias = str
    Scheduler: TypeAlias = str
    PredictionType: TypeAlias = str
    Optimizer: TypeAlias = str
    TimestepDensity: TypeAlias = str
    Scene: TypeAlias = str
    BetaSchedule: TypeAlias = str
else:
    Variant = Literal[tuple(registry.VARIANTS)]
    SkipFusion = Literal[tuple(registry.SKIP_FUSIONS)]
    Scheduler = Literal[tuple(registry.SCHEDULERS)]
    PredictionType = Literal[tuple(registry.PREDICTION_TYPES)]
    Optimizer = Literal[tuple(registry.OPTIMIZERS)]
    TimestepDensity = Literal[tuple(registry.TIMESTEP_DENSITIES)]
    Scene = Literal[tuple(registry.SCENES)]
    BetaSchedule = Literal[BETA_SCHEDULES]
