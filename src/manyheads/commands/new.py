"""New: look at data and write a configuration that learns from it."""

from __future__ import annotations

import keyword
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manyheads.commands import parsers
from manyheads.config import composition
from manyheads.config.schema import Config
from manyheads.errors import ConfigError
from manyheads.guessing import images, pictures, placing, rehearsal, settings, sources, tables, writing
from manyheads.guessing.proposals import Finding, Part, Proposal
from manyheads.guessing.sources import Source
from manyheads.paths import project_root
from manyheads.runtime import printing
from manyheads.runtime.files import write_text

LARGEST_IMAGE = {"class_folders": 64, "table": 64, "coco": 96}
"""Height and width in pixels that images get at most, by dataset; boxes need more of them."""


def main(arguments: list[str]) -> None:
    """Look at the data, place it, and write ``conf/data/NAME.yaml``."""
    options = parsers.new().parse_args(arguments)
    root = project_root()
    file = _checked(options.name, root)
    if not options.source:
        raise ConfigError("--from is empty: give a table, a folder, an archive or a COCO file")
    source = sources.look(Path(options.source).expanduser())
    target = placing.planned(source, root, options.name)
    proposal = _proposed(source, _listed(options.heads), _listed(options.inputs))
    with _placed(source, target) as placed:
        found, text = _rehearsed(root, options.name, target, proposal)
        write_text(file, text)
    _say(options.name, root, target, placed, proposal, found)


def _listed(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


def _checked(name: str, root: Path) -> Path:
    """Return the path of the new file, if the name can be an option."""
    if not name:
        raise ConfigError("the new option has no name: make new NAME=wine FROM=wine.csv")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"{name!r} cannot name an option: use small letters, digits and _, a letter first")
    if keyword.iskeyword(name) or name in ("null", "true", "false", "yes", "no", "on", "off", "default"):
        raise ConfigError(f"{name!r} cannot name an option, because it has a meaning of its own: choose another NAME")
    file = root / f"conf/data/{name}.yaml"
    if file.exists():
        raise ConfigError(f"{file.relative_to(root)} exists: choose another NAME, or remove the file")
    return file


def _proposed(source: Source, heads: list[str] | None, inputs: list[str] | None) -> Proposal:
    if source.frame is not None:
        members = set(source.members)
        columns = tables.examine_table(source.frame, lambda cell: tables.path_of(cell) in members)
        proposal = tables.propose(columns, len(source.frame), heads, inputs)
    else:
        pictures.refuse_choice(heads, inputs)
        propose = pictures.propose_objects if source.form == "coco" else pictures.propose_class_folders
        proposal = propose(source)
    for name, part in proposal.inputs.items():
        if part.settings["kind"] == "image":
            looked = images.look_at_images(source, _paths(source, part), LARGEST_IMAGE[proposal.dataset])
            proposal.inputs[name] = part._replace(settings={**part.settings, **looked.settings})
            proposal.findings.append(
                Finding(f"images of {name}", f"input, {looked.settings['image_size']} pixels", looked.said)
            )
            proposal.doubts += [looked.doubt] if looked.doubt else []
            # Changes of an image would move the objects in it.
            proposal.photographs |= looked.photographs and source.form != "coco"
    if source.left_out:
        proposal.findings.append(Finding("other files", "left out", f"{source.left_out:,} files"))
    return proposal


def _paths(source: Source, part: Part) -> list[str]:
    if source.frame is None:
        return list(source.members)
    named = map(tables.path_of, source.frame[part.columns[0]].unique())
    members = set(source.members)
    return [name for name in named if name in members]


@contextmanager
def _placed(source: Source, target: Path) -> Iterator[str]:
    """Place the data; take it away again if the body raises."""
    already = target.exists()
    try:
        yield placing.place(source, target)
    except BaseException:
        if not already and target.exists():
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        raise


def _rehearsed(root: Path, name: str, target: Path, proposal: Proposal) -> tuple[rehearsal.Rehearsal, str]:
    """Return what the first stages would do, and the text of the file; the proposal is amended until they succeed."""
    read = None
    path = target.relative_to(root.resolve()).as_posix()
    while True:
        proposal.train, proposal.train_comment = settings.training(proposal.samples, photographs=proposal.photographs)
        text = writing.text_of(name, path, proposal)
        config = _composed(root, name, text)
        read = read or rehearsal.read_inputs(config, target)
        found = rehearsal.rehearse(config, target, read)
        if not rehearsal.amend(proposal, found):
            return found, text
        proposal.samples = found.accepted


def _composed(root: Path, name: str, text: str) -> Config:
    """Return the configuration that ``data=NAME`` would compose to, before the file is there."""
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder) / "conf"
        shutil.copytree(root / "conf", conf)
        (conf / f"data/{name}.yaml").write_text(text, encoding="utf-8")
        return composition.compose(Path(folder), [f"data={name}"])


def _say(name: str, root: Path, target: Path, placed: str, proposal: Proposal, found: rehearsal.Rehearsal) -> None:
    """Print what was found, what is unsure, what was written, and the next command."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    console = printing.console(highlight=False, soft_wrap=True)
    if not console.is_terminal:  # a file or another program, where lines are as long as they need to be
        console.width = 200
    shown = Table(box=box.ROUNDED if console.is_terminal else None, title=proposal.summary, title_justify="left")
    for column in ("found", "becomes", "because"):
        shown.add_column(column)
    for finding in proposal.findings:
        shown.add_row(*map(escape, finding))
    console.print(shown)
    lines = [f"unsure: {doubt}" for doubt in proposal.doubts]
    lines += [f"rejected: {line}" for line in rehearsal.counts_by_code(found.rejects + found.unreadable)]
    path = target.relative_to(root.resolve())
    lines += [
        f"samples: {found.accepted:,}" + (f", {found.copies:,} of them copies of others" if found.copies else ""),
        f"data: {path}, {placed}",
        f"wrote: conf/data/{name}.yaml - read it, and fill in units and what is unsure",
        f"next: make repro ARGS='data={name}'",
        f"or:   dvc exp run -S data={name}",
    ]
    console.print("\n".join(lines), markup=False)
