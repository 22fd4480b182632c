"""Values that flags choose from, known without importing the library that implements them."""

from typing import Literal, TypeAlias

from .. import registry

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
# accelerate's, of accelerate.utils.LoggerType
TRACKERS = ("all", "tensorboard", "wandb", "comet_ml", "aim", "clearml", "dvclive", "mlflow", "swanlab", "trackio")

Variant: TypeAlias = Literal[tuple(registry.VARIANTS)]
SkipFusion: TypeAlias = Literal[tuple(registry.SKIP_FUSIONS)]
Scheduler: TypeAlias = Literal[tuple(registry.SCHEDULERS)]
PredictionType: TypeAlias = Literal[tuple(registry.PREDICTION_TYPES)]
BetaSchedule: TypeAlias = Literal[BETA_SCHEDULES]
