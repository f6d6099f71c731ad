"""The command ``depthscale``: one file per verb; each parses, calls one public function and prints.

Bad input ends in one line on standard error and exit status 2; Ctrl-C in 130. ``--help`` loads no heavy library.
"""

import sys
from collections.abc import Sequence
from typing import Any


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; ends the process with its exit status."""
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 2 unusable input, 130 interrupted."""
    import typer

    from depthscale.cli.app import app
    from depthscale.errors import DepthscaleError

    command = typer.main.get_command(app)
    try:
        code = command.main(list(argv) if argv is not None else None, prog_name="depthscale", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except DepthscaleError as error:
        print(f"depthscale: {error}", file=sys.stderr)
        return 2
    except _usage_error() as error:
        error.show()
        return 2
    except (typer.Abort, KeyboardInterrupt):
        print("depthscale: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, and the interpreter would complain about it at exit
        return 0


def _usage_error() -> type[Any]:
    """What the parser raises for words it cannot use, whichever parser this typer brings."""
    import typer

    found: type[Any] = typer.BadParameter.__mro__[1]
    return found
