"""``depthscale figure [NAME]``: the gallery; one figure or all of them, recomputed, with whether its claim holds."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscale.cli import common

if TYPE_CHECKING:
    from depthscale.figures.gallery import Entry, Outcome

_STYLES = {"holds": "green", "fails": "red", "undecided": "yellow", "error": "bold red"}
_PAUSE = 2.0  # seconds between two lines of progress where there is no terminal


def figure(
    name: Annotated[str | None, typer.Argument(help="A figure, or all; without one, they are listed.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller experiment that still decides.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for pictures, numbers and the gallery's page.")] = Path(
        "out/figures"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what is already in the folder.")] = False,
    jobs: Annotated[int | None, typer.Option(help="Figures at a time (all); by default one a core.", min=1)] = None,
    seed: common.Seed = 0,
    as_json: common.Json = False,
) -> None:
    """Recompute a figure or a claim and say whether it holds.

    Exit status 0 whatever the verdict, 1 where a figure could not be run.
    """
    from depthscale.figures import gallery

    if name is None:
        _list(gallery.entries(), out, as_json)
        return
    began = time.monotonic()
    if name == "all":
        entries = gallery.entries()
        outcomes = _all(entries, out, quick=quick, seed=seed, fresh=fresh, jobs=jobs, quiet=as_json)
    else:
        entries = [gallery.find(name)]
        with _watching(1, as_json) as (told, ended):
            told(name, "starting")
            options: dict[str, Any] = {"quick": quick, "seed": seed, "fresh": fresh}
            outcomes = [gallery.make(entries[0], out, **options, say=lambda words: told(name, words))]
            ended(outcomes[0])
    if as_json:
        common.print_json({"seconds": time.monotonic() - began, "figures": [_plain(o, out) for o in outcomes]})
    else:
        _print(entries, outcomes, out, together=name == "all")
    if any(o.kind == "error" for o in outcomes):
        raise typer.Exit(1)


def _plain(outcome: "Outcome", out: Path) -> dict[str, Any]:
    from dataclasses import asdict

    files = [str(p) for s in ("png", "svg", "json") if (p := out / f"{outcome.name}.{s}").exists()]
    return {**asdict(outcome), "files": files}


def _list(entries: "list[Entry]", out: Path, as_json: bool) -> None:
    from rich.table import Table

    from depthscale.figures.gallery import read

    known = {e.name: read(out / f"{e.name}.json") for e in entries}
    if as_json:
        rows = []
        for e in entries:
            f, o = e.figure, known[e.name]
            about = {"error": e.error} if f is None else {"title": f.title, "claim": f.claim, "source": f.source}
            rows.append({"name": e.name, **about, "verdict": o.kind if o is not None else None})
        common.print_json({"figures": rows})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("figure", "claim", "last verdict"):
        table.add_column(column, overflow="fold", no_wrap=column == "figure")
    for e in entries:
        o = known[e.name]
        claim = e.figure.claim if e.figure is not None else f"the file cannot be imported: {e.error}"
        table.add_row(e.name, claim, "" if o is None else f"[{_STYLES[o.kind]}]{o.kind}[/]")
    common.output().print(table)
    print("depthscale figure NAME [--quick] runs one, depthscale figure all [--quick] makes the gallery's page")


def _all(
    entries: "list[Entry]", out: Path, *, quick: bool, seed: int, fresh: bool, jobs: int | None, quiet: bool
) -> "list[Outcome]":
    """Run everything, with the page written again after each, so that an interruption leaves one."""
    from depthscale.figures.page import write_page
    from depthscale.figures.together import make_all

    began, finished = time.monotonic(), list["Outcome"]()
    with _watching(len(entries), quiet) as (told, ended):

        def done(outcome: "Outcome") -> None:
            finished.append(outcome)
            write_page(out, entries, finished, seconds=time.monotonic() - began)
            ended(outcome)

        return make_all(entries, out, quick=quick, seed=seed, fresh=fresh, jobs=jobs, told=told, done=done)


class _watching:
    """Shows what each running figure says, where there is a terminal; and every verdict as it comes."""

    def __init__(self, total: int, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.screen, self.quiet = common.console(), quiet
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.live, self.spoke = not quiet and self.screen.is_terminal, time.monotonic()
        self.progress = Progress(*columns, console=self.screen, transient=True, disable=not self.live)
        self.overall = self.progress.add_task("the gallery", total=total, visible=total > 1)
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> "tuple[Callable[[str, str], None], Callable[[Outcome], None]]":
        self.progress.start()
        return self.told, self.ended

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def told(self, name: str, words: str) -> None:
        if not self.live:  # a line now and then
            if not self.quiet and time.monotonic() - self.spoke > _PAUSE:
                self.screen.print(f"[dim]{name}: {words}[/]")
                self.spoke = time.monotonic()
            return
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(name, total=None)
        self.progress.update(self.tasks[name], description=f"{name}: {words}")

    def ended(self, outcome: "Outcome") -> None:
        if outcome.name in self.tasks:
            self.progress.remove_task(self.tasks.pop(outcome.name))
        self.progress.advance(self.overall)
        if not self.quiet:
            found = " (found)" if outcome.cached else ""
            style = _STYLES[outcome.kind]
            self.screen.print(
                f"[{style}]{outcome.kind:9}[/] {outcome.name}, {outcome.seconds:.1f} s{found}", markup=True
            )


def _print(entries: "list[Entry]", outcomes: "list[Outcome]", out: Path, *, together: bool) -> None:
    from rich.markup import escape

    from depthscale.report.words import plural

    screen = common.output()
    for e, o in zip(entries, outcomes, strict=True):
        title = e.figure.title if e.figure is not None else e.name
        screen.print(f"[bold]{escape(title)}[/] ({o.name})")
        if e.figure is not None and not together:
            screen.print(f"  claim: {escape(e.figure.claim)} [dim]{escape(e.figure.source)}[/]")
        screen.print(f"  [{_STYLES[o.kind]}]{o.kind}[/]: {escape(o.reason)}")
    if together:
        counts = ", ".join(f"{sum(o.kind == k for o in outcomes)} {k}" for k in _STYLES)
        screen.print(f"{plural(len(outcomes), 'figure')}: {counts}")
        screen.print(f"gallery: {(out / 'index.html').resolve()}", soft_wrap=True)
    elif outcomes[0].kind != "error":
        screen.print(f"picture: {(out / f'{outcomes[0].name}.png').resolve()}", soft_wrap=True)
