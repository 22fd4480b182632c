"""Values that flags choose from, known without importing the library that implements them."""

from typing import Literal, TypeAlias

# names of synthset.registry, once it is there
VARIANTS = ("two_encoder", "shared_encoder", "concat")
SKIP_FUSIONS = ("scale_u", "zero_conv", "concat")
SCHEDULERS = ("ddpm", "ddim", "dpmsolver++", "unipc")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
# accelerate's, of accelerate.utils.LoggerType
TRACKERS = ("all", "tensorboard", "wandb", "comet_ml", "aim", "clearml", "dvclive", "mlflow", "swanlab", "trackio")

Variant: TypeAlias = Literal[VARIANTS]
SkipFusion: TypeAlias = Literal[SKIP_FUSIONS]
Scheduler: TypeAlias = Literal[SCHEDULERS]
PredictionType: TypeAlias = Literal[PREDICTION_TYPES]
BetaSchedule: TypeAlias = Literal[BETA_SCHEDULES]
