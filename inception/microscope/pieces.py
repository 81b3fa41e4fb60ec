"""What a site keeps of its work beside its pages, so that a run that was stopped goes on, and the next one adds.

    data/site.json             which network the site is of
    data/excite-Mixed_5b-000.json   a piece: what is known of one part, and what it depends on

A piece is taken when what it depends on is what is wanted now, and is written after the pictures it names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inception.files import atomic, inert_json
from inception.files.errors import CheckpointError

PARTS = DATA, PICTURES, POINTS, LOOKS = "data", "sprites", "points", "pictures"
_OURS = (".json", ".safetensors", ".webp", ".html", ".js")
_SITE = "site.json"
_FIELDS = {"weights": str, "network": dict, "picture": dict, "pages": list[str]}


class Pieces:
    """The pieces of a site. `key` is a digest of whatever a piece depends on (`key_of`)."""

    def __init__(self, site: Path) -> None:
        self.site = site

    def kept(self, name: str, key: str) -> dict[str, Any] | None:
        """What was kept under a name, where it depends on the same and its pictures are there; None otherwise."""
        path = self.site / DATA / f"{name}.json"
        if not path.is_file():
            return None
        try:
            piece = inert_json.side_file(path, {"key": str, "said": dict})
        except CheckpointError:
            return None
        if piece["key"] != key or not all((self.site / PICTURES / file).is_file() for file in _files(piece["said"])):
            return None
        return dict(piece["said"])

    def all(self, start: str, key: str) -> list[dict[str, Any]]:
        """The pieces of that key whose names begin so, by their names."""
        names = sorted(path.stem for path in (self.site / DATA).glob(f"{start}*.json"))
        return [said for name in names if (said := self.kept(name, key)) is not None]

    def keep(self, name: str, key: str, said: Mapping[str, Any]) -> dict[str, Any]:
        """Keeps what is known of a part: values of JSON, "files" naming its pictures."""
        text = json.dumps({"key": key, "said": said}, separators=(",", ":"))
        write(self.site / DATA / f"{name}.json", text.encode())
        return dict(json.loads(text)["said"])

    def before(self, identity: Mapping[str, Any], force: bool) -> list[str]:
        """The pages of end points that the site has already.

        ValueError where it is another network's, unless `force`, and where the folder holds other things than a site.
        """
        if (self.site / DATA / _SITE).is_file():
            wrong, pages = self._there(identity)
            if wrong and not force:
                raise ValueError(
                    f"{self.site} is the site of another network (its {wrong} is another); "
                    "--force (force=True) makes it anew, or give another folder."
                )
            return pages
        if self.site.exists() and (not self.site.is_dir() or any(self.site.iterdir())):
            raise ValueError(f"{self.site} holds something else than a site; give a new folder.")
        return []

    def begin(self, identity: Mapping[str, Any], pages: Sequence[str]) -> None:
        """Makes the folder the site of a network with these pages of end points; another's files go."""
        path = self.site / DATA / _SITE
        if path.is_file() and self._there(identity)[0]:
            for file in [file for part in PARTS for file in (self.site / part).glob("*") if file.suffix in _OURS]:
                file.unlink()
        for part in PARTS:
            (self.site / part).mkdir(parents=True, exist_ok=True)
        write(path, json.dumps({**identity, "pages": list(pages)}, indent=1).encode())

    def _there(self, identity: Mapping[str, Any]) -> tuple[str, list[str]]:
        """(the field of the identity in which the site that is there is another's, "" for none; its pages)."""
        try:
            said = inert_json.side_file(self.site / DATA / _SITE, _FIELDS)
        except CheckpointError:
            return "description", []
        wrong = next((name for name in identity if said[name] != json.loads(json.dumps(identity[name]))), "")
        return wrong, [] if wrong else list(said["pages"])


def _files(said: Mapping[str, Any]) -> list[str]:
    return [str(file) for file in said.get("files", ())]


def address(point: str) -> str:
    """An end point's or unit's name as a part of a file's name."""
    return point.replace("/", ".")


def key_of(*parts: Any) -> str:
    """A digest of values of JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, and leaves one that is the same alone."""
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    with atomic.replacing(path) as (temporary,):
        temporary.write_bytes(content)
