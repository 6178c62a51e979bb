"""The tokkit command. Each subcommand is a file of this folder, and loads what is heavy when it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

import tokkit
from tokkit.cli.bench import bench_app
from tokkit.cli.codes import bench_codes_command
from tokkit.cli.compare import compare_command
from tokkit.cli.decode import decode_command
from tokkit.cli.demo import demo_command
from tokkit.cli.encode import encode_command
from tokkit.cli.eval import eval_command
from tokkit.cli.export import export_command
from tokkit.cli.inspect import inspect_command
from tokkit.cli.list import list_command
from tokkit.cli.prepare import prepare_command
from tokkit.cli.prior import prior_app
from tokkit.cli.suite import bench_suite_command
from tokkit.cli.tokbench import bench_tokbench_command
from tokkit.cli.train import train_command
from tokkit.errors import InputError, RecipeError, RegistryError, TokenFileError, TokkitError

WORK_FAILED, BAD_INPUT = 1, 2


def _say_version(asked: bool) -> None:
    if asked:
        print(f"tokkit {tokkit.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="tokkit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def about(
    version: Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which, and stop.")] = False,
) -> None:
    """Images, video, audio and 3D shapes to discrete tokens and back."""


app.command("train")(train_command)
app.command("encode")(encode_command)
app.command("decode")(decode_command)
app.command("eval")(eval_command)
app.command("compare")(compare_command)
bench_app.command("codes")(bench_codes_command)
bench_app.command("suite")(bench_suite_command)
bench_app.command("tokbench")(bench_tokbench_command)
app.add_typer(bench_app, name="bench")
app.add_typer(prior_app, name="prior")
app.command("prepare")(prepare_command)
app.command("demo")(demo_command)
app.command("export")(export_command)
app.command("list")(list_command)
app.command("inspect")(inspect_command)


def main() -> NoReturn:
    """Run the command line; exit 0 when done, 1 when work failed, 2 on bad input."""
    try:
        app()
    except (InputError, RecipeError, RegistryError, TokenFileError) as error:
        _complain(error)
        sys.exit(BAD_INPUT)
    except TokkitError as error:
        _complain(error)
        sys.exit(WORK_FAILED)
    except BrokenPipeError:
        # The reader of our output has gone (`tokkit list | head`): say no more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(WORK_FAILED)
    sys.exit(0)


def _complain(error: TokkitError) -> None:
    problems = error.problems if isinstance(error, RecipeError) else [str(error)]
    for problem in problems:
        print(f"tokkit: {' '.join(problem.split())}" if not isinstance(error, RecipeError) else problem, file=sys.stderr)
