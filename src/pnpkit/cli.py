"""``pnpkit``: list, solve, check, train, bench, … Errors are one paragraph; see EXIT_CODES."""

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape

from pnpkit.bench import commands
from pnpkit.errors import PnpkitError

EXIT_CODES = (
    "Exit codes: 0 done, 1 a check failed, 2 bad input, 3 the parts cannot work together, 4 diverged, 5 a store cannot "
    "be used, 6 worse than published, 130 interrupted."
)

app = typer.Typer(
    help=f"Plug-and-play imaging inverse problems: any operator × prior × solver.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
weights_app = typer.Typer(help="Weights of trained priors.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")
native_app = typer.Typer(help="The C++ backend.", no_args_is_help=True)
app.add_typer(native_app, name="native")
app.add_typer(commands.store_app, name="store")
app.command()(commands.bench)
app.command()(commands.report)
console = Console(soft_wrap=True)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        import pnpkit

        console.print(pnpkit.__version__)
        raise typer.Exit


@app.command("list")
def list_(
    kind: Annotated[Optional[str], typer.Argument(help="operators, priors, solvers, makers, metrics, …")] = None,  # noqa: UP045
    fits: Annotated[
        bool, typer.Option("--fits", help="Which prior × solver works for an operator, and why not.")
    ] = False,
    operator: Annotated[str, typer.Option(help="The operator of --fits.")] = "blur",
    noise: Annotated[str, typer.Option(help="The likelihood of --fits.")] = "gaussian",
) -> None:
    """What is registered, plugins included."""
    from pnpkit import listing

    for block in listing.fits(operator, noise) if fits else listing.components(kind):
        console.print(block)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A registered name, e.g. blur or solvers/hqs.")],
    schema: Annotated[bool, typer.Option("--schema", help="Its parameters as JSON schema.")] = False,
) -> None:
    """One component: what it is, its parameters, an example for a config."""
    from pnpkit import listing

    if schema:
        sys.stdout.write(listing.schema(name) + "\n")
    else:
        for block in listing.describe(name):
            console.print(block)


@app.command()
def solve(
    config: Annotated[
        Path, typer.Argument(help="YAML with operator, noise and optionally prior, solver, scale, seed.")
    ],
    input: Annotated[Path, typer.Option("--input", "-i", help="The measurement (npy, npz, mat, h5, cfl, png, …).")],
    out: Annotated[Path, typer.Option("--out", "-o", help=".npy or an image: x; .safetensors: the whole result.")],
    key: Annotated[Optional[str], typer.Option(help="Which array of the input file.")] = None,  # noqa: UP045
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The input is a clean image: measure it first, report PSNR.")
    ] = False,
    picture: Annotated[Optional[Path], typer.Option(help="Also write a PNG of the reconstruction.")] = None,  # noqa: UP045
    checkpoint: Annotated[Path | None, typer.Option(help="Save the state here; resume from it when it exists.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Reconstruct one measurement by a config file."""
    from pnpkit.solve_config import run

    result = run(config, input, out, key, simulate, picture, checkpoint, progress=not quiet)
    for line in result.lines:
        console.print(escape(line), highlight=False)
    if result.interrupted:
        raise typer.Exit(130)


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Registered names or an installed plugin package.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything that is registered.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every check, not only failures.")] = False,
) -> None:
    """Run the conformance suite on components."""
    from pnpkit import listing

    if not names and not all_:
        raise typer.BadParameter("name what to check, or use --all")
    if not listing.check(names or [], console, verbose):
        raise typer.Exit(1)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A file of any format that pnpkit reads, or a folder of DICOM slices.")],
    key: Annotated[Optional[str], typer.Option(help="Which array to look into.")] = None,  # noqa: UP045
) -> None:
    """What a file holds: arrays, axes, voxel size, orientation, units, range of values, and how to name it."""
    from pnpkit import listing

    for block in listing.file(file, key):
        console.print(block)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("demo_report"),
    quick: Annotated[bool, typer.Option("--quick", help="One photograph, few steps: a smoke test.")] = False,
    threads: Annotated[int, typer.Option(help="Torch threads; 0 leaves torch's choice.", min=0)] = 2,
) -> None:
    """Degrade and restore real photographs and MRI; writes a table and one HTML page.

    With the environment variable PNPKIT_DATA set to a data folder, also the real 8-channel brain k-space and
    the PnP denoiser's weights found there.
    """
    from pnpkit.demo import run

    run(out, quick=quick, threads=threads, console=console)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file (YAML), or the name of a shipped one.")],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; runs/NAME when left out. Goes on from it.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="In place of the recipe's number of steps.", min=1)] = None,
    threads: Annotated[int, typer.Option(help="Torch threads; 0 leaves torch's choice.", min=0)] = 0,
    eager: Annotated[bool, typer.Option("--eager", help="Without torch.compile.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train a prior; killed at any time, the same command goes on. Data paths are relative to PNPKIT_DATA.

    Several processes: torchrun --nproc-per-node 4 -m pnpkit train RECIPE.
    """
    import torch

    from pnpkit.training.loop import device_from_environment
    from pnpkit.training.loop import train as run
    from pnpkit.training.recipe import read_recipe

    if threads:
        torch.set_num_threads(threads)
    plan = read_recipe(recipe).with_options(steps=steps, compile=False if eager else None)
    folder = out or Path("runs") / plan.name
    path = run(plan, folder, device_from_environment(), lambda line: console.print(escape(line)), progress=not quiet)
    console.print(f"wrote {path}")


@weights_app.command("convert")
def weights_convert(
    source: Annotated[Path, typer.Argument(help="A .pth/.pt checkpoint (read with weights_only=True).")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write, with a .json card beside it.")],
) -> None:
    """Convert a pickled checkpoint to safetensors; the only way a pickle is ever read."""
    from pnpkit.priors.weights import convert

    convert(source, target)
    console.print(f"wrote {target}")


@native_app.command("build")
def native_build(
    sanitize: Annotated[
        bool, typer.Option("--sanitize", help="With address and undefined-behaviour sanitizers, for tests.")
    ] = False,
) -> None:
    """Compile it for the installed torch; at once when that was done before."""
    from pnpkit import native

    target = native.build(console.print, sanitize=sanitize)
    console.print(f"pnpkit-infer: {target / 'pnpkit-infer'}")


@native_app.command("status")
def native_status() -> None:
    """Whether it is built, and what a build would need."""
    from pnpkit import native

    reason = native.absent()
    console.print(f"built: {native.folder()}" if reason is None else reason)
    for sentence in native.lacking() if reason else []:
        console.print(sentence)


@native_app.command("export")
def native_export(
    model: Annotated[
        str,
        typer.Argument(
            help="A config of `pnpkit solve` (YAML); or a prior alone: the name of shipped weights, a .safetensors "
            """file, or JSON as '{"name": "ffdnet", "weights": "FFDNet_gray.npz"}'."""
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    dtype: Annotated[str, typer.Option(help="fp32 or bf16 arithmetic of the network.")] = "fp32",
    shape: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Size of the images that a network is compiled for, as 256x256, or dynamic (any); may be repeated. "
            "Diff-Unfolding and our U-Nets are not compiled and take every size."
        ),
    ] = None,
) -> None:
    """Write what pnpkit-infer needs to run a prior, or a whole config, without Python: a package."""
    from pnpkit.native_package import export, read_dtype, read_size

    for line in export(model, out, read_dtype(dtype), [read_size(s) for s in shape or ["dynamic"]]):
        console.print(line)


def main() -> None:
    """The console script."""
    try:
        app()
    except PnpkitError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", highlight=False
        )
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
