"""A training recipe: one YAML file, checked before anything is read."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from pnpkit.errors import DataError, SpecError, suggest
from pnpkit.io.mappings import read_mapping
from pnpkit.native import Backend
from pnpkit.training.families import AnyFamily
from pnpkit.training.sources import AnySource


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageOptions(Part):
    """channels : of the network's images; 2 for complex ones, with ``complex``.
    phase : give real images a random smooth phase.
    contrast : share of the samples whose magnitudes go through a random curve, as another tissue contrast.
    strict : refuse unreadable or small files instead of skipping them.
    """

    channels: PositiveInt = 1
    crop: PositiveInt = 64
    augment: bool = True
    complex: bool = False
    phase: bool = False
    contrast: float = Field(default=0.0, ge=0, le=1)
    strict: bool = False
    mean: float = 0.0
    std: PositiveFloat = 0.25


class NetworkOptions(Part):
    """As in ``UNet``."""

    widths: tuple[PositiveInt, ...] = (48, 96, 176, 208)
    blocks: PositiveInt = 2
    attention: bool = False
    middle: PositiveInt | None = None


class NoiseOptions(Part):
    """Log-uniform levels in units of the images: in ``focus`` with probability ``share``, else in ``range``."""

    range: tuple[PositiveFloat, PositiveFloat] = (0.002, 20.0)
    focus: tuple[PositiveFloat, PositiveFloat] = (0.01, 0.4)
    share: float = Field(default=0.7, ge=0, le=1)


class PosteriorOptions(Part):
    """Training of a posterior denoiser: measurements are made on the fly, every sample with its own operator and noise.

    network : "unfolding" (``UnfoldingNetwork``) or "concatenation" (``ConcatenationNetwork``).
    stages, shared, dual, anchor, data_step, sees_change : of the unrolled network, as there.
    families : the operators. sigma : standard deviation of the measurement's noise, log-uniform.
    alone : share of samples with x_t at the highest noise level, where it says nothing: the posterior mean given y.
    stage_loss : weight of the mean loss of the stages before the last.
    recompute : keep nothing of a stage for its gradient but its input, so that memory does not grow with ``stages``.
    """

    network: Literal["unfolding", "concatenation"] = "unfolding"
    stages: PositiveInt = 3
    shared: bool = True
    dual: bool = True
    anchor: bool = True
    data_step: Literal["prox", "gradient"] = "prox"
    sees_change: bool = False
    families: tuple[AnyFamily, ...] = Field(min_length=1)
    sigma: tuple[PositiveFloat, PositiveFloat] = (0.004, 0.1)
    alone: float = Field(default=0.5, ge=0, le=1)
    stage_loss: float = Field(default=0.1, ge=0)
    recompute: bool = False


class OptimiserOptions(Part):
    """AdamW: ``warmup`` steps, a constant rate, then a linear fall to zero over the last ``decay`` of all steps.

    half_life : of the running mean of the weights, in samples.
    keep_start : share of the weights that training began with in those that are written: a mean of both is better on
        images unlike those of the training (WiSE-FT; Wortsman et al., CVPR 2022).
    backend : whose 3×3 convolutions a training on the CPU uses: "auto" takes the C++ ones where they are built.
    workers : processes that draw samples ahead of the training, for a GPU; 0 draws them in the training's own.
    """

    steps: PositiveInt
    batch: PositiveInt = 32
    rate: PositiveFloat = 5e-4
    warmup: PositiveInt = 500
    decay: float = Field(default=0.3, gt=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: PositiveFloat = 1.0
    half_life: PositiveInt = 20_000
    keep_start: float = Field(default=0.0, ge=0, lt=1)
    bf16: bool = True
    compile: bool = True
    backend: Backend = "auto"
    log_every: PositiveInt = 50
    workers: NonNegativeInt = 0


class ValidationOptions(Part):
    data: tuple[AnySource, ...]
    every: PositiveInt = 2000
    images: PositiveInt = 16
    size: PositiveInt = 128
    sigmas: tuple[PositiveFloat, ...] = (0.02, 0.0588, 0.098, 0.196, 0.392, 1.0)


class Recipe(Part):
    """Everything that decides what is trained."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    about: str = ""
    terms: str = Field(default="", description="where the data come from and what their terms allow")
    seed: NonNegativeInt = 0
    data: tuple[AnySource, ...] = Field(min_length=1)
    image: ImageOptions = ImageOptions()
    network: NetworkOptions = NetworkOptions()
    start: str | None = Field(default=None, description="weights to begin with: a shipped name or a file of `train`")
    noise: NoiseOptions = NoiseOptions()
    posterior: PosteriorOptions | None = None
    optimiser: OptimiserOptions
    validation: ValidationOptions

    def with_options(self, **changes: Any) -> "Recipe":
        """With other optimiser options; None leaves one as it is."""
        options = {**self.optimiser.model_dump(), **{k: v for k, v in changes.items() if v is not None}}
        return self.model_copy(update={"optimiser": OptimiserOptions(**options)})

    def kept(self) -> dict[str, Any]:
        """What a resumed run must share; the number of steps may change."""
        told = json.loads(self.model_dump_json())
        for key in ("steps", "decay", "compile", "backend", "log_every", "keep_start", "workers"):
            del told["optimiser"][key]
        for key in ("validation", "about", "terms"):
            del told[key]
        return told


def read_recipe(path: str | Path) -> Recipe:
    """A recipe file, or the name of a shipped one."""
    path = Path(path)
    shipped = {p.stem: p for p in (Path(__file__).parent / "recipes").glob("*.yaml")}
    if not path.is_file() and str(path) in shipped:
        path = shipped[str(path)]
    if not path.is_file():
        raise DataError(f"Recipe {path} does not exist.{suggest(str(path), shipped)}")
    told = read_mapping(path, "Recipe")
    try:
        return Recipe(**told)
    except ValidationError as error:
        raise SpecError(f"{path}: {sentence(error)}") from error


def sentence(error: ValidationError) -> str:
    """The first mistakes, each with where it is."""
    told = []
    for e in sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[:3]:
        where = ".".join(str(p) for p in e["loc"])
        model: Any = Recipe
        for p in e["loc"][:-1]:
            field = getattr(model, "model_fields", {}).get(p)
            model = getattr(field, "annotation", None)
        hint = suggest(str(e["loc"][-1]), model.model_fields) if hasattr(model, "model_fields") else ""
        if e["type"] == "extra_forbidden":
            told.append(f"{where}: unknown field.{hint}")
        else:
            given = "" if e["type"] == "missing" else f", given {e['input']!r}"
            told.append(f"{where}: {e['msg']}{given}.")
    return " ".join(told)
