"""`loopline demo`: the whole loop on hospital readmissions, from a file to a guarded re-deployment."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from loopline.cli.progress import Events, Lines, event
from loopline.cli.session import as_json, settings_of

NAME = "readmission"
FILE = "readmission.parquet"
SYNTHETIC_ROWS = 96_921
_MARK = "demo.json"

_CHUNK = 4_000
_SINGLE_SHARE = 0.1
"""Of each chunk this share of rows is sent one a request; the others up to 64 together."""
_SINGLE_IN_ALL = 5_000


class Story:
    """What the demo tells as it goes: lines for people, JSON events for programs."""

    def __init__(self, json: bool) -> None:
        self.json = json
        self.began = time.perf_counter()
        self.watcher: Any = Events() if json else Lines()

    def chapter(self, title: str) -> None:
        """A part begins."""
        if self.json:
            event("chapter", title=title)
        else:
            click.echo(f"\n{click.style(title, bold=True)}")

    def line(self, stage: str, said: str, **facts: Any) -> None:
        """Something was found, decided or done."""
        if self.json:
            event(stage, said=said, **facts)
        else:
            click.echo(f"{click.style(f'{stage:<10}', bold=True)} {time.perf_counter() - self.began:8.1f} s  {said}")

    @contextlib.contextmanager
    def sending(self, rows: int) -> Iterator[Any]:
        """A progress bar for rows that are sent; silent where there is no terminal."""
        if self.json or not sys.stdout.isatty():
            yield lambda count: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task("sending rows", total=rows)
            yield lambda count: progress.advance(task, count)


class Rows:
    """A frame's rows as dicts, made only when they are asked for: all at once they take more memory than the frame."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __len__(self) -> int:
        return int(self._frame.height)

    def __getitem__(self, part: slice) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._frame[part].to_dicts()
        return rows


@click.command()
@click.option("--data", metavar="FILE", help="The readmission table (else LOOPLINE_DATA, else synthetic patients).")
@click.option("--workspace", metavar="DIR", help="Where the demo keeps everything (default: ./.loopline).")
@click.option("--port", type=int, help="Port of the server (default: 8400).")
@click.option("--fresh", is_flag=True, help="Begin anew: remove the workspace that an earlier demo made here.")
@click.option(
    "--break-challenger", is_flag=True, help="Also roll out a broken model, and see it rolled back by itself."
)
@click.option("--exit", "leave", is_flag=True, help="End when the story is told, instead of staying up.")
@as_json
@click.pass_context
def demo(
    ctx: click.Context,
    data: str | None,
    workspace: str | None,
    port: int | None,
    fresh: bool,
    break_challenger: bool,
    leave: bool,
    json: bool,
) -> None:
    """Show the whole loop on hospital readmissions, in about a minute.

    The first half of the encounters is history: checked, split, trained on, gated, registered. The second half is live
    traffic: served, labelled, watched. What has drifted in it raises an alert; the loop retrains, passes its gates again, and
    the challenger is rolled out under guard.
    """
    ctx.obj["workspace"] = workspace or ctx.obj["workspace"]
    settings = settings_of(ctx, port=port)
    story = Story(json)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ended from outside, it ends its server, too
    _prepare(settings.workspace, fresh)
    with _server_stopped_at_the_end() as started:
        history, live, facts = _rows(data, settings.workspace, story)
        _first_half(settings, history, facts, story)
        url = _serve(settings, started, story)
        from loopline.client import connect

        with connect(url) as session:
            told = _second_half(session, url, live, settings, break_challenger, story)
            _farewell(session, url, settings.workspace, live, told, story)
        if not leave:
            click.echo("\nThe server stays up. End it with Ctrl-C.", err=json)
            started[0].wait()


def _prepare(workspace: Path, fresh: bool) -> None:
    """An empty workspace; one that an earlier demo made is removed where that was asked for."""
    from loopline.errors import Conflict
    from loopline.loop.lease import held

    if (workspace / "loopline.db").exists():
        if not (workspace / _MARK).exists():
            raise Conflict(
                f"{workspace} is a workspace with work in it.",
                code="workspace-used",
                hint="Give the demo another: --workspace DIR.",
            )
        if not fresh:
            raise Conflict(
                f"An earlier demo is in {workspace}.",
                code="workspace-used",
                hint="Begin anew with --fresh, or look at it: loopline status.",
            )
        with held(workspace, "loopline demo"):
            shutil.rmtree(workspace)
    workspace.mkdir(parents=True, exist_ok=True, mode=0o700)
    (workspace / _MARK).write_text("{}")


def _rows(data: str | None, workspace: Path, story: Story) -> tuple[Path, Any, dict[str, str]]:
    """The history as a file, the live rows as a frame, and where they are from."""
    from loopline.data.readers import read_table
    from loopline.data.synthetic import synthetic_readmission

    story.chapter("From a table to a served model")
    folder = os.environ.get("LOOPLINE_DATA")
    path = Path(data) if data else Path(folder) / FILE if folder and (Path(folder) / FILE).exists() else None
    if path is not None:
        frame = read_table(path).frame
        facts = {"data": f"real: {path.name}"}
        told = f"{frame.height:,} real encounters of {path.name}"
    else:
        frame = synthetic_readmission(rows=SYNTHETIC_ROWS)
        facts = {"data": "synthetic"}
        told = f"{frame.height:,} synthetic encounters (README says where the real file is)"
    frame = frame.sort("encounter_id", maintain_order=True)
    half = frame.height // 2
    history = workspace / "history.parquet"
    frame.head(half).write_parquet(history)
    story.line("rows", f"{told}: the first {half:,} are history, the others will be live", **facts)
    return history, frame.tail(frame.height - half), facts


def _first_half(settings: Any, history: Path, facts: dict[str, str], story: Story) -> None:
    """History: the loop's first run, to a champion."""
    from loopline.app import Platform
    from loopline.errors import Refused
    from loopline.loop.again import first
    from loopline.loop.lease import held

    folder = settings.workspace / "loops"
    folder.mkdir(exist_ok=True)
    file = folder / f"{NAME}.py"
    example = (files("loopline") / "examples" / f"{NAME}.py").read_text()
    # So that `loopline run` finds the history again, from wherever it is called.
    file.write_text(example.replace(f'"{FILE}"', f'"../{history.name}"'))
    with (
        held(settings.workspace, "loopline demo"),
        contextlib.closing(Platform.open(settings)) as platform,
    ):
        result = first(
            platform.session(), str(file), settings.workspace, data=str(history), facts=facts, watcher=story.watcher
        )
    if result.outcome != "promoted":
        raise Refused(f"The first model was {result.outcome}: {result.reason}", code="demo-refused")


@contextlib.contextmanager
def _server_stopped_at_the_end() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    try:
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
            process.wait()


def _serve(settings: Any, started: list[subprocess.Popen[bytes]], story: Story) -> str:
    """Starts `loopline up` in a process of its own and waits until it answers."""
    from loopline.api.up import address_of
    from loopline.errors import Unavailable

    story.chapter("Live: served, labelled, watched")
    log = settings.workspace / "up.log"
    with log.open("wb") as said:
        command = [sys.executable, "-m", "loopline", "--workspace", str(settings.workspace), "up"]
        process = subprocess.Popen(
            [*command, "--host", settings.host, "--port", str(settings.port)], stdout=said, stderr=said
        )
    started.append(process)
    while (address := address_of(settings.workspace)) is None:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()
            raise Unavailable(f"The server did not start: {last[-1] if last else 'it said nothing'}", code="no-server")
        time.sleep(0.05)
    story.line("serve", f"{NAME} is served at {address.url}", url=address.url)
    return address.url


def _second_half(
    session: Any, url: str, live: Any, settings: Any, break_challenger: bool, story: Story
) -> dict[str, Any]:
    """Live traffic with late labels, until the drift in it has led to a new champion, and on to the end of the rows."""
    from loopline.agents.replay import Replay

    labels = live["readmitted"].to_list()
    replay = Replay(url, NAME, Rows(live.drop("readmitted")), labels)

    def send(rows: int = _CHUNK) -> None:
        before = replay.sent
        with story.sending(min(rows, replay.left)) as told:
            single = int(rows * _SINGLE_SHARE)
            if rows >= replay.left:  # the last of them: as many alone as were promised
                single = max(single, _SINGLE_IN_ALL - replay.single_requests)
            replay.send(rows, single=single, told=told)
        replay.send_labels(session, before)  # labels come a chunk later than their rows

    if break_challenger:
        _broken(session, settings, send, story)
    alert = None
    while alert is None and replay.left > replay.sent // 4:
        send()
        alert = _wait(lambda: next(iter(session.alerts.list(NAME, status="open")), None), 2.0)
    story.line("replay", f"{replay.sent:,} rows in {replay.requests:,} requests", rows=replay.sent)
    if alert is None:
        story.line("monitor", "no drift was found in the rows so far")
        return {"promoted": False}
    story.line("alert", alert.summary, alert=alert.ref)
    replay.send_labels(session, replay.sent)
    outcome = _retrained(session, story, send, replay)
    while replay.left and outcome is not None and outcome.status == "running":
        send(2_000)
        _wait(lambda: _collected(session) >= replay.sent or None, 3.0)  # what it decides by has to be on record
        outcome = _moved(session, outcome, story)
    if outcome is not None and outcome.status == "running":
        replay.send_labels(session, replay.sent)
        end = time.monotonic() + 15
        while outcome.status == "running" and time.monotonic() < end:
            time.sleep(0.3)
            outcome = _moved(session, outcome, story)
    while replay.left:
        send(16_000)
    replay.send_labels(session, replay.sent)
    _wait(lambda: _collected(session) >= replay.sent or None, 10.0)
    story.line(
        "replay",
        f"all {replay.sent:,} live rows answered in {replay.requests:,} requests, {replay.single_requests:,} of one row",
        rows=replay.sent,
        requests=replay.requests,
    )
    _quality(session, story)
    return {"promoted": outcome is not None and outcome.status == "promoted"}


def _retrained(session: Any, story: Story, send: Any, replay: Any) -> Any:
    """Waits for the run that the alert asked for, telling its stages; gives the rollout that it began."""
    story.chapter("The loop runs again, by itself")
    before = {r.id for r in session.pipelines.list(NAME)}
    told: set[str] = set()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        request = next(iter(session.loops.requests()), None)
        for run in session.pipelines.list(NAME, limit=1):
            if run.id in before and run.status != "running":
                continue
            for step in run.steps:
                if step.step not in told:
                    told.add(step.step)
                    story.watcher.ended(step.step, step.outputs, step.seconds, reused=step.cached)
        if request is not None and request.status not in ("asked", "running"):
            if request.status == "challenging":
                return session.rollouts.list(NAME)[0]
            story.line("decided", f"{request.status}: {request.message}")
            return None
        if request is not None and request.status == "asked" and replay.left > 20_000:
            send()
            replay.send_labels(session, replay.sent)
        time.sleep(0.2)
    story.line("decided", "the run is still under way")
    return None


def _moved(session: Any, rollout: Any, story: Story) -> Any:
    """Tells what was decided about a rollout since; gives it as it stands."""
    time.sleep(0.5)
    now = session.rollouts.show(rollout.id)
    for step in now.steps[len(rollout.steps) :]:
        stage = rollout.plan.stages[step.stage]
        name = "shadow" if stage.kind == "shadow" else f"canary {stage.percent} %"
        story.line("rollout", f"{name}: {step.decision}, {step.reason}", decision=step.decision)
    return now


def _broken(session: Any, settings: Any, send: Any, story: Story) -> None:
    """Registers a version that answers the same to everybody, rolls it out by hand, and watches the guard."""
    from loopline.app import Platform
    from loopline.loop.broken import register_constant

    story.chapter("A broken challenger")
    with contextlib.closing(Platform.open(settings)) as platform:
        ref = register_constant(platform.session(), NAME, settings.workspace / "scratch", label="readmitted")
    from loopline.loop.files import read

    plan = read(settings.workspace / "loops" / f"{NAME}.py").rollout.plan()
    rollout = session.rollouts.start(NAME, ref, plan)
    story.line("rollout", f"{ref}, which answers the same to everybody, is rolled out by hand")
    while rollout.status == "running":
        send(1_000)
        rollout = _moved(session, rollout, story)


def _quality(session: Any, story: Story) -> None:
    """Quality on the labels that came, for new and returning patients apart."""
    report = session.monitors.quality(NAME)
    shown = [
        f"{window.name} {window.metrics['roc_auc'][0]:.3f} [{window.metrics['roc_auc'][1]:.3f}, {window.metrics['roc_auc'][2]:.3f}]"
        f" on {window.labelled:,}"
        for window in (report.overall, *report.groups)
        if window is not None and "roc_auc" in window.metrics
    ]
    story.line("quality", "roc_auc of patients: " + "; ".join(shown))


def _farewell(session: Any, url: str, workspace: Path, live: Any, told: dict[str, Any], story: Story) -> None:
    """Where it is, and what to try next."""
    import msgspec

    example = workspace / "example.json"
    row = live.drop("readmitted").head(1).to_dicts()
    example.write_bytes(msgspec.json.encode(row))
    place = "" if workspace == Path.cwd() / ".loopline" else f" --workspace {workspace}"
    shown = example.relative_to(Path.cwd()) if example.is_relative_to(Path.cwd()) else example
    tries = [
        f"loopline{place} status",
        f"loopline{place} models card {NAME}@champion",
        f"loopline{place} lineage model:{NAME}@champion",
        f"curl -s {url}/predict/{NAME} -H 'Content-Type: application/json' -d @{shown}",
    ]
    champion = session.endpoints.show(NAME).champion
    seconds = time.perf_counter() - story.began
    if story.json:
        event("done", url=url, champion=champion, promoted=told["promoted"], seconds=round(seconds, 1), next=tries)
        return
    click.echo(
        f"\n{champion} is champion after {seconds:.0f} s. The page: {click.style(url + '/', underline=True)}\nTry next:"
    )
    for one in tries:
        click.echo(f"  {one}")


def _collected(session: Any) -> int:
    """Rows on record by now; the log is taken in some moments after the answers."""
    traffic = session.predictions.traffic(NAME).variants
    return sum(variant.rows for name, variant in traffic.items() if ":" not in name)


def _wait(ask: Any, seconds: float) -> Any:
    """What `ask` gives once it gives something, or None after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        if (found := ask()) is not None or time.monotonic() > end:
            return found
        time.sleep(0.2)
