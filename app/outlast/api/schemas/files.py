"""The query strings and answers of calls about files."""

from marshmallow import Schema, ValidationError
from marshmallow import fields as ma_fields

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict


def _check_absolute(path: str) -> None:
    if not path.startswith("/"):
        raise ValidationError("must be an absolute path: begin it with /")


class FileQuery(Strict):
    """The query string of a call about one file or folder."""

    path = fields.String(
        required=True,
        validate=_check_absolute,
        metadata={
            "description": "Absolute path, as the kernel takes it. Links are followed.",
            "example": "/srv/notes.txt",
        },
    )


class FolderEntry(Schema):
    """An entry of a folder. A symbolic link is told as what it leads to."""

    name = ma_fields.String(required=True, metadata={"description": "Name. Bytes that are not UTF-8 are U+FFFD."})
    is_dir = ma_fields.Boolean(required=True, metadata={"description": "Whether the entry is a folder."})
    size = ma_fields.Integer(
        required=True, allow_none=True, metadata={"description": "Bytes of a file; null for anything else."}
    )
    modified_at = ma_fields.Integer(
        required=True, metadata={"description": "Last change of the contents, in milliseconds since 1970."}
    )


class Folder(Schema):
    """The entries of a folder."""

    path = ma_fields.String(required=True, metadata={"description": "The path that was asked for."})
    entries = ma_fields.List(
        ma_fields.Nested(FolderEntry), required=True, metadata={"description": "The entries, by name."}
    )
