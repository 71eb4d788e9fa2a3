"""The commands that read and write public layouts of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from kinema.cli.commands import Json, app
from kinema.cli.terminal import show

convert = App(
    name="convert",
    help="Public weights in, public weights out.",
    help_epilogue="Example: kinema convert open-sora OpenSora-STDiT-v2-stage3 --out model",
    help_format="plaintext",
)
app.command(convert)


@convert.command(
    name="open-sora",
    help_epilogue="Example: kinema convert open-sora OpenSora-STDiT-v2-stage3 --out model",
)
def open_sora(
    path: Annotated[Path, Parameter(help="Folder of model.safetensors and config.json, or PixArt weights.")],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="The model folder to write.")],
    text_encoder: Annotated[
        str | None, Parameter(help="T5 as a folder or hub name; the published one when left out.")
    ] = None,
    vae: Annotated[
        str | None, Parameter(help="Autoencoder as a folder or hub name; the published one when left out.")
    ] = None,
    embed: Annotated[
        bool, Parameter(negative=(), help="Copy encoders that are folders into the model.")
    ] = False,
    qk_norm: Annotated[
        bool, Parameter(negative=(), help="For PixArt weights: norm queries and keys, as Open-Sora 1.1 does.")
    ] = False,
    json: Json = False,
) -> int:
    """Make a model folder from Open-Sora 1.1's weights, or start one from PixArt's image weights."""
    from kinema.convert.open_sora import OpenSoraConfig, convert_open_sora

    config = OpenSoraConfig(text_encoder=text_encoder, vae=vae, embed=embed, qk_norm=qk_norm)
    show(convert_open_sora(path, out, config), as_json=json)
    return 0


@convert.command(
    name="svd",
    help_epilogue="Example: kinema convert svd stable-video-diffusion-img2vid --out model",
)
def svd(
    path: Annotated[Path, Parameter(help="Folder of a pipeline: unet, vae, image_encoder or text_encoder.")],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="The model folder to write.")],
    embed: Annotated[bool, Parameter(negative=(), help="Copy the encoders into the model.")] = False,
    json: Json = False,
) -> int:
    """Make a model folder from Stable Video Diffusion, or start one from Stable Diffusion 2.1."""
    from kinema.convert.svd_folders import convert_svd

    show(convert_svd(path, out, embed=embed), as_json=json)
    return 0


@convert.default
def export(
    model: Annotated[Path, Parameter(help="A model folder.")],
    /,
    *,
    to: Annotated[Literal["open-sora", "svd"], Parameter(name="--to", help="The public layout to write.")],
    out: Annotated[Path, Parameter(name="--out", help="The folder to write.")],
    ema: Annotated[bool, Parameter(help="The averaged weights, where the model has them.")] = True,
    json: Json = False,
) -> int:
    """Write a model in a public layout: its network for Open-Sora, a whole pipeline for diffusers."""
    from kinema.convert.open_sora import export_open_sora
    from kinema.convert.svd_folders import export_svd

    write = {"open-sora": export_open_sora, "svd": export_svd}[to]
    show(write(model, out, ema=ema), as_json=json)
    return 0
