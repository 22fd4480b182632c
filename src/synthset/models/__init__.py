from .paired_unet_2d import PairedUNet2DModel, PairedUNet2DOutput

__all__ = ["PairedUNet2DModel", "PairedUNet2DOutput"]
