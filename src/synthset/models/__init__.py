from .discriminator import PairedDiscriminator2DModel, PairedDiscriminator2DOutput
from .paired_unet_2d import PairedUNet2DModel, PairedUNet2DOutput

__all__ = [
    "PairedDiscriminator2DModel",
    "PairedDiscriminator2DOutput",
    "PairedUNet2DModel",
    "PairedUNet2DOutput",
]
