"""Data as the user has it: a table, a folder or an archive, or a COCO file, with the files that belong to it."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pandas as pd

from manyheads.datasets import archives, table
from manyheads.errors import DataError, IntegrityError
from manyheads.inputs import ImageInput

Form = Literal["table", "class folders", "coco"]

ANNOTATIONS = "annotations.json"


@dataclass(frozen=True)
class Source:
    """The user's data.

    Attributes:
        form: What it is.
        path: The file or folder that holds it: a table or an archive, or the folder of ``files``.
        files: Where each file lies, by its path below the dataset's folder; empty if the data is one file.
        members: Paths of the files in the folder or archive, as in ``files``, without what is no sample.
        keeps_its_place: Whether the folder can be read as it lies: it holds the dataset's files, and no links.
        frame: All cells of the table as texts.
        annotations: The content of the COCO file.
        left_out: Number of files in the folder that are no samples.
    """

    form: Form
    path: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    members: Collection[str] = ()
    keeps_its_place: bool = True
    frame: pd.DataFrame | None = None
    annotations: Mapping[str, Any] | None = None
    left_out: int = 0

    def contents(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the bytes of those wanted members that can be read."""
        if self.files:
            for name in wanted:
                try:
                    yield name, self.files[name].read_bytes()
                except (OSError, KeyError):
                    continue
        elif self.members:
            kept = set(wanted)
            root = _root(archives.names(self.path))
            for name, data in archives.selected(self.path, lambda path: path.removeprefix(root) in kept):
                if name.removeprefix(root) in kept and isinstance(data, bytes):
                    yield name.removeprefix(root), data


def is_image_name(path: str) -> bool:
    """Return whether a path ends as those of the images that are read."""
    return path.lower().endswith(ImageInput.FILE_SUFFIXES)


def look(path: Path) -> Source:
    """Return what the data at a path is.

    Args:
        path: A table, a folder, an archive, or a COCO file.

    Raises:
        DataError: There is nothing, or nothing of a known form.
        IntegrityError: A file is damaged, or an archive is unsafe.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: give a table, a folder, an archive or a COCO file")
    name = path.name.lower()
    if path.is_dir():
        files, linked = _files_below(path)
        # An unpacked archive often has one folder in another.
        return look(path / root) if (root := _root(files)) else _look_into(path, files, linked)
    if name.endswith(table.SUFFIXES):
        return _table(path)
    if name.endswith(".json"):
        return _coco(path)
    if name.endswith((".tar.gz", ".tgz", ".tar", ".zip")):
        return _look_into(path, None)
    raise DataError(
        f"{path} is of an unknown kind: give a .csv or .parquet table, a folder, a .zip, .tar or .tar.gz archive, or "
        "a COCO file (.json)"
    )


def _root(names: Iterable[str]) -> str:
    """Return the folder that all paths are in, with a slash at its end, or an empty text."""
    folders = {posixpath.dirname(name) for name in names if not archives.is_junk(name)}
    common = posixpath.commonpath(folders) if folders else ""
    return f"{common}/" if common else ""


def _files_below(folder: Path) -> tuple[dict[str, Path], bool]:
    """Return all files below a folder by their paths in it, and whether one of them is reached through a link."""
    found: dict[str, Path] = {}
    linked = False
    seen = {folder.resolve()}
    pending = [folder]
    while pending:
        here = pending.pop()
        try:
            entries = sorted(here.iterdir())
        except OSError as error:
            raise DataError(f"{here} cannot be read: {error.strerror or error}") from error
        for entry in entries:
            relative = entry.relative_to(folder).as_posix()
            if archives.is_junk(relative) or entry.name.startswith("."):
                continue
            linked |= entry.is_symlink()
            if entry.is_dir():
                if entry.resolve() not in seen:
                    seen.add(entry.resolve())
                    pending.append(entry)
            elif entry.is_file():
                found[relative] = entry.resolve()
    return found, linked


def _look_into(path: Path, files: dict[str, Path] | None, linked: bool = False) -> Source:
    """Return what a folder (with its files) or an archive holds."""
    if files is None:
        names = [name for name in archives.names(path) if not archives.is_junk(name)]
        root = _root(names)
        names = [name.removeprefix(root) for name in names]
    else:
        root, names = "", list(files)
    if not names:
        raise DataError(f"{path} holds no files: give a folder or an archive with data")
    images = [name for name in names if is_image_name(name)]
    described = [name for name in names if name.lower().endswith(".json")]
    at_top = [name for name in names if name.lower().endswith(table.SUFFIXES) and "/" not in name]
    if images and (coco := _coco_among(path, files, root, described)):
        return coco
    if at_top:
        return _table_among(path, files, root, at_top, names, linked)
    if images and len({PurePosixPath(name).parent.name for name in images}) > 1:
        return _class_folders(path, files, images, linked, len(names) - len(images))
    raise DataError(_nothing_known(path, names, images))


def _class_folders(path: Path, files: dict[str, Path] | None, images: list[str], linked: bool, left_out: int) -> Source:
    """Return images whose class is the name of their folder, such as ``train/cat/1.jpg`` or ``cat/1.jpg``."""
    above = {PurePosixPath(name).parent.parent for name in images}
    if files is None:
        if len(above) > 1:
            listed = ", ".join(sorted(map(str, above))[:3])
            raise DataError(
                f"{path} has folders of classes in several folders, {listed}: unpack it and give the folder"
            )
        return Source("class folders", path, {}, images, left_out=left_out)
    kept = {name: files[name] for name in images}
    if above == {PurePosixPath(".")}:
        return Source("class folders", path, kept, images, not linked, left_out=left_out)
    # The folders above the class become a part of the name: the dataset reads class/file.
    flat: dict[str, Path] = {}
    for name, file in kept.items():
        *upper, label, last = PurePosixPath(name).parts
        flat["/".join([label or path.name, "_".join([*upper, last])])] = file
    return Source("class folders", path, flat, list(flat), False, left_out=left_out)


def _nothing_known(path: Path, names: Collection[str], images: Collection[str]) -> str:
    if images:
        return (
            f"{path} has {len(images):,} images in one folder and no labels: sort them into one folder for each class, "
            "put a table with their paths and labels beside them, or read the labels from their names "
            "(docs/datasets.md, code of your own)"
        )
    endings = Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in names)
    listed = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(3))
    return (
        f"{path} has neither images in folders of their classes nor a table at its top; it has {listed}: give the "
        f"table itself, or images that end with {', '.join(ImageInput.FILE_SUFFIXES)}"
    )


def _table(path: Path) -> Source:
    """Return a table, with the images that it names if they are beside it."""
    frame = table.read_frame(path, _bytes_of(path))
    here = path.parent
    named = _named_files(frame, lambda cell: (here / cell).is_file())
    if not named:
        return Source("table", path, frame=frame)
    files = {name: (here / name).resolve() for name in named} | {path.name: path.resolve()}
    linked = path.is_symlink() or any((here / name).is_symlink() for name in named)
    alone = sum(entry.name.lower().endswith(table.SUFFIXES) for entry in here.iterdir()) == 1
    return Source("table", here, files, named, keeps_its_place=alone and not linked, frame=frame)


def _named_files(frame: pd.DataFrame, exists: Any) -> list[str]:
    """Return the paths that cells of columns of paths name and that exist, as the dataset reads them."""
    found: dict[str, None] = {}
    for column in frame:
        cells = frame[column].astype(str).str.strip()
        filled = cells[cells != ""]
        if filled.empty or filled.iloc[:1000].map(is_image_name).mean() < 0.5:
            continue
        for cell in filled.unique():
            path = table.normal_path(cell)
            if table.is_safe(path) and exists(path):
                found[path] = None
    return list(found)


def _table_among(
    path: Path, files: dict[str, Path] | None, root: str, at_top: list[str], names: list[str], linked: bool
) -> Source:
    if len(at_top) > 1:
        raise DataError(
            f"{path} has {len(at_top)} tables at its top, {', '.join(sorted(at_top)[:3])}: name one with --from"
        )
    (name,) = at_top
    if files is None:
        data = next(data for member, data in archives.selected(path, (root + name).__eq__) if member == root + name)
        if isinstance(data, OSError):
            raise DataError(f"{path}: {name} cannot be read: {data.strerror or data}")
    else:
        data = _bytes_of(files[name])
    frame = table.read_frame(path / name, data)
    named = _named_files(frame, set(names).__contains__)
    kept = {each: files[each] for each in (name, *named)} if files else {}
    return Source("table", path, kept, named, not linked, frame, left_out=len(names) - len(named) - 1)


def _coco_among(path: Path, files: dict[str, Path] | None, root: str, described: list[str]) -> Source | None:
    if files is None:
        if ANNOTATIONS not in described:
            return None
        data = next(
            data for name, data in archives.selected(path, (root + ANNOTATIONS).__eq__) if name == root + ANNOTATIONS
        )
        content = _json(path / ANNOTATIONS, data) if isinstance(data, bytes) else None
        if not _is_coco(content):
            return None
        members = [str(image["file_name"]) for image in content["images"]]  # type: ignore[index]
        return Source("coco", path, members=members, annotations=content)
    near = [name for name in described if name.count("/") <= 1]  # deeper ones are of single images
    found = [name for name in near if _is_coco(_json_or_none(_bytes_of(files[name])))]
    if len(found) > 1:
        raise DataError(f"{path} has {len(found)} COCO files, {', '.join(sorted(found)[:3])}: name one with --from")
    return _coco(path / found[0]) if found else None


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise IntegrityError(f"{path} is no JSON ({error}): download or export it again") from None


def _json_or_none(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _is_coco(content: Any) -> bool:
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _coco(path: Path) -> Source:
    """Return a COCO file with its images, which are beside it or in a folder where they usually are."""
    content = _json(path, _bytes_of(path))
    if not _is_coco(content):
        raise DataError(f"{path} is not a COCO file: it needs the lists images, annotations and categories")
    try:
        names = [str(image["file_name"]) for image in content["images"]]
    except (TypeError, KeyError) as error:
        raise DataError(f"{path} is not a COCO file: an image has no {error}") from None
    part = path.stem.removeprefix("instances_")
    above = path.parent.parent
    places = [path.parent, path.parent / "images", above / "images", above / part, above / "images" / part, above]
    best = max(places, key=lambda place: sum((place / name).is_file() for name in names[:50]))
    files = {name: (best / name).resolve() for name in names if table.is_safe(name) and (best / name).is_file()}
    if not files:
        shown = f", such as {names[0]}," if names else ""
        raise DataError(f"{path}: none of its {len(names)} images{shown} is beside it: put the file into their folder")
    members = list(files)
    beside = best == path.parent and path.name == ANNOTATIONS
    linked = path.is_symlink() or any((best / name).is_symlink() for name in members)
    files[ANNOTATIONS] = path.resolve()
    return Source("coco", path.parent, files, members, beside and not linked, annotations=content)
