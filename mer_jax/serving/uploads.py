"""A request's clip on its way to a private folder, and what came with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePath
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, BinaryIO, NamedTuple

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from mer_jax.data.clip_files import MEDIA_SUFFIXES
from mer_jax.recognition.files import File
from mer_jax.runtime.terminal import harmless

FIELDS = ("text", "group")
MOST_TEXT = 2**16  # bytes of a field
MOST_PARTS = 16
LONGEST_NAME = 200  # characters
MEDIA_TYPES = ("application/octet-stream", "application/ogg", "application/mp4", "application/mxf", "image/gif")
HOW = "send the clip as multipart/form-data with a file, or by itself as video/..., audio/... or " + MEDIA_TYPES[0]


class Upload(NamedTuple):
    """A clip that has arrived."""

    file: File
    name: str  # that the client gave it

    def told(self, reason: str) -> str:
        """A sentence about the file under the client's name, without the place where it lies here."""
        return reason.replace(str(self.file.path), self.name).replace(f"{self.file.path.parent}/", "")

    def named(self, line: dict[str, Any]) -> dict[str, Any]:
        """Its line, in the same words."""
        line = line | {"file": self.name}
        if "error" in line:
            line["error"] = self.told(line["error"])
        if "absent" in line:
            line["absent"] = {modality: self.told(reason) for modality, reason in line["absent"].items()}
        return line


@asynccontextmanager
async def received(request: Request, folder: Path, most_bytes: int) -> AsyncIterator[Upload]:
    """The request's clip, in a folder of its own under `folder`; both are gone when the block ends.

    Raises:
        HTTPException: 400, 413 or 415.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if not kind.startswith((b"video/", b"audio/")) and kind.decode("latin-1") not in (
        "multipart/form-data",
        *MEDIA_TYPES,
    ):
        raise HTTPException(415, f"{kind.decode('latin-1') or 'no content type'}: {HOW}")
    if request.headers.get("content-length", "").isdigit() and int(request.headers["content-length"]) > most_bytes:
        raise too_large(most_bytes)
    place = Path(mkdtemp(dir=folder))
    try:
        with open(place / "clip", "wb") as target:
            if kind == b"multipart/form-data":
                form = Form(options.get(b"boundary", b""), target)
                async for chunk in bounded(request, most_bytes):
                    form.write(chunk)
                name, fields = form.end()
            else:
                async for chunk in bounded(request, most_bytes):
                    target.write(chunk)
                name, fields = request.query_params.get("name", ""), dict(request.query_params)
        name = safe(name)
        suffix = PurePath(name).suffix.lower()
        path = (place / "clip").rename(
            place / f"clip{suffix if suffix in MEDIA_SUFFIXES else ''}"
        )  # which tells a format
        if not path.stat().st_size:
            raise HTTPException(400, f"no clip came along: {HOW}")
        yield Upload(File(path, fields.get("text", "").strip(), fields.get("group", "").strip() or None), name)
    finally:
        rmtree(place, ignore_errors=True)


def too_large(most_bytes: int) -> HTTPException:
    """The refusal of a large request."""
    return HTTPException(413, f"the request is larger than {most_bytes / 2**20:g} MiB, the most that this server takes")


async def bounded(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """The body as it comes. Raises HTTPException where it is too large."""
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > most_bytes:
            raise too_large(most_bytes)
        yield chunk


def safe(name: str) -> str:
    """A file's name as a client gave it, without folders and what steers a terminal."""
    name = harmless(PurePath(name.replace("\\", "/")).name)
    return name[-LONGEST_NAME:] or "clip"


class Form:
    """A multipart form: its one file goes to `target` as it comes, its fields are kept."""

    def __init__(self, boundary: bytes, target: BinaryIO):
        self.target = target
        self.name: str | None = None  # of the file
        self.fields: dict[str, bytearray] = {}
        self.header: dict[str, bytearray] = {"name": bytearray(), "value": bytearray()}
        self.disposition = b""
        self.part: BinaryIO | bytearray = bytearray()
        self.parts, self.complete = 0, False
        callbacks = {each: getattr(self, each) for each in dir(self) if each.startswith("on_")}
        try:
            self.parser = MultipartParser(boundary or b"none", callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise unreadable(error) from error

    def write(self, data: bytes) -> None:
        """Takes a piece of the body. Raises HTTPException."""
        try:
            self.parser.write(data)
        except FormParserError as error:
            raise unreadable(error) from error

    def end(self) -> tuple[str, dict[str, str]]:
        """The file's name and the fields. Raises HTTPException where some of it is missing."""
        if not self.complete:
            raise HTTPException(400, "the form breaks off before its end")
        if self.name is None:
            raise HTTPException(400, f"no file in the form: {HOW}")
        try:
            return self.name, {name: value.decode() for name, value in self.fields.items()}
        except UnicodeDecodeError as error:
            raise HTTPException(400, "a field of the form is no UTF-8") from error

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header["name"] += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.header["value"] += data[start:end]

    def on_header_end(self) -> None:
        if self.header["name"].lower() == b"content-disposition":
            self.disposition = bytes(self.header["value"])
        self.header = {"name": bytearray(), "value": bytearray()}

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self.disposition)
        self.disposition = b""
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise HTTPException(400, f"more than {MOST_PARTS} parts in the form")
        if b"filename" in options:
            if self.name is not None:
                raise HTTPException(400, "more than one file in the form: one request for each")
            self.name, self.part = options[b"filename"].decode("utf-8", "replace"), self.target
        else:
            name = options.get(b"name", b"").decode("latin-1")
            self.part = self.fields.setdefault(name, bytearray()) if name in FIELDS else bytearray()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if isinstance(self.part, bytearray):
            self.part += data[start:end]
            if len(self.part) > MOST_TEXT:
                raise HTTPException(413, f"a field of the form is larger than {MOST_TEXT // 2**10} KiB")
        else:
            self.part.write(data[start:end])

    def on_end(self) -> None:
        self.complete = True


def unreadable(error: FormParserError) -> HTTPException:
    """The refusal of what is no form."""
    return HTTPException(400, f"the form cannot be read: {error}")
