"""The part of the route table that is about files."""

from http import HTTPStatus

from outlast.api.handlers import files
from outlast.api.route import Answer, Route
from outlast.api.schemas.files import FileQuery, Folder
from outlast.files.reading import MAX_ENTRIES
from outlast.model.errors import NoSpace, NotFound

_FILES = "/api/v1/files"

FILE_ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path=_FILES,
        call=files.read,
        summary="Read a file",
        group="Files",
        description="Files of any size, read as the daemon's user may. A client that has the token can start "
        "processes, and so can read files anyhow; the setting `files` turns these calls off.",
        query=FileQuery,
        answer=Answer(meaning="The contents.", content={"application/octet-stream": "The bytes of the file."}),
        raises=(NotFound,),
    ),
    Route(
        method="PUT",
        path=_FILES,
        call=files.write,
        summary="Write a file",
        group="Files",
        description="The path has its old contents until all of the new ones have come and are on the disk. Missing "
        "folders are made. An old file keeps its permissions.",
        query=FileQuery,
        body="The contents, of any size.",
        answer=Answer(status=HTTPStatus.NO_CONTENT, meaning="The file was written.", content={}),
        raises=(NotFound, NoSpace),
    ),
    Route(
        method="DELETE",
        path=_FILES,
        call=files.delete,
        summary="Delete a file",
        group="Files",
        description="A symbolic link itself is deleted, and not what it leads to. Folders are refused.",
        query=FileQuery,
        answer=Answer(status=HTTPStatus.NO_CONTENT, meaning="The file was deleted.", content={}),
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path=f"{_FILES}/list",
        call=files.list_entries,
        summary="List a folder",
        group="Files",
        description=f"At most {MAX_ENTRIES} entries; a folder with more is refused.",
        query=FileQuery,
        answer=Answer(meaning="The entries, by name.", content={"application/json": Folder}),
        raises=(NotFound,),
    ),
)
