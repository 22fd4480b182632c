"""Draws `docs/images/architecture.png`: what the blocks of each variant compute, measured in a forward pass.

    python docs/architecture.py

A box is a block and one branch; its height stands for the side of the features, its number is that of their channels.
"""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from synthset import PairedUNet2DModel
from synthset.visualization.figures import panels, to_image

COLORS = {"image": "#3b78b5", "mask": "#d1722f", "both": "#5a8f5a"}
SKIP, LINK = "#999999", "#b0307a"
TITLES = {
    "two_encoder": "two_encoder: a U-Net for each, linked (the paper's)",
    "shared_encoder": "shared_encoder: one encoder for both, two decoders",
    "concat": "concat: one U-Net on both",
}


def measure(network: PairedUNet2DModel) -> dict[str, list[torch.Size]]:
    """Shapes (B, channels, height, width) of every branch's features after each block, by the block's name."""
    shapes: dict[str, list[torch.Size]] = {}
    blocks = {f"down {i}": block for i, block in enumerate(network.down_blocks)}
    blocks |= {"bottleneck": network.mid_out_blocks}
    blocks |= {f"up {i}": block for i, block in enumerate(network.up_blocks)}
    for name, block in blocks.items():
        block.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: [x.shape for x in out]}))
    with torch.no_grad():
        network(torch.zeros(1, sum(network.stream_channels), 64, 64), 0)
    return shapes


def draw(axes: Axes, variant: str) -> None:
    network = PairedUNet2DModel(sample_size=64, variant=variant)
    shapes = measure(network)
    levels = len(network.down_blocks)
    largest = shapes["down 0"][0][-1]
    rows = {1: [0.0], 2: [1.0, -1.0]}
    names = {1: ["both"], 2: ["image", "mask"]}
    middle = {}
    for x, (block, branches) in enumerate(shapes.items()):
        for row, name, shape in zip(rows[len(branches)], names[len(branches)], branches, strict=True):
            height = 0.5 + 0.8 * shape[-1] / largest
            corner = (x - 0.32, row - height / 2)
            axes.add_patch(
                FancyBboxPatch(
                    corner,
                    0.64,
                    height,
                    boxstyle="round,pad=0,rounding_size=0.06",
                    fc=COLORS[name],
                    ec="none",
                    zorder=3,
                )
            )
            axes.text(x, row, str(shape[1]), color="white", ha="center", va="center", fontsize=7, zorder=4)
            middle[block, row] = (x, row, height)
        first = branches[0]
        axes.text(x, -1.95, f"{first[-1]} px", ha="center", va="top", fontsize=6, color="#555555")
    # the way through the network
    blocks = list(shapes)
    for before, after in zip(blocks, blocks[1:], strict=False):
        for row in {row for block, row in middle if block in (before, after)}:
            start = middle.get((before, row), middle.get((before, 0.0)))
            end = middle.get((after, row), middle.get((after, 0.0)))
            if start and end:
                arrow(axes, (start[0] + 0.32, start[1]), (end[0] - 0.32, end[1]), "black")
    # skips of the U-Net, from a down block to the up block of its level, and links between the branches
    for level in range(levels):
        down, up = f"down {level}", f"up {levels - 1 - level}"
        for row in rows[len(shapes[up])]:
            start, end = middle.get((down, row), middle.get((down, 0.0))), middle[up, row]
            up_or_down = 1 if row >= 0 else -1
            places = [(x, y + up_or_down * height / 2) for x, y, height in (start, end)]
            arrow(axes, *places, SKIP, f"arc3,rad={-0.13 * up_or_down}")
    for block, branches in shapes.items():
        if len(branches) == 2 and block != "down 0":
            (x, top, height), (_, bottom, other) = middle[block, 1.0], middle[block, -1.0]
            arrow(axes, (x, top - height / 2), (x, bottom + other / 2), LINK, style="<|-|>")
    for row, name in zip(rows[len(network.stream_channels)], names[len(network.stream_channels)], strict=True):
        label = {"both": "image\nand mask"}.get(name, name)
        first, last = middle.get((blocks[0], row), middle.get((blocks[0], 0.0))), middle[blocks[-1], row]
        axes.text(-0.95, row, label, ha="right", va="center", fontsize=7, color=COLORS[name])
        arrow(axes, (-0.85, row), (first[0] - 0.32, first[1]), "black")
        arrow(axes, (last[0] + 0.32, row), (last[0] + 0.75, row), "black")
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    axes.set_title(f"{TITLES[variant]}\n{parameters:.1f} million parameters", fontsize=8)
    axes.set(xlim=(-2.2, len(blocks) + 0.2), ylim=(-2.3, 2.3))
    axes.axis("off")


def arrow(axes: Axes, start: tuple, end: tuple, color: str, bend: str = "arc3", style: str = "-|>") -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=style,
            connectionstyle=bend,
            color=color,
            mutation_scale=6,
            linewidth=0.8,
            shrinkA=0,
            shrinkB=0,
            zorder=2,
        )
    )


def main() -> None:
    figure, plots = panels(len(TITLES), height=2.9)
    for axes, variant in zip(plots, TITLES, strict=True):
        draw(axes, variant)
    to_image(figure).save(Path(__file__).parent / "images" / "architecture.png")


if __name__ == "__main__":
    main()
