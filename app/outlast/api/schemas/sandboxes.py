"""The answers of calls about sandboxes, and the query string of a tunnel."""

from marshmallow import Schema
from marshmallow import fields as ma_fields

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict


class SandboxResources(Schema):
    """The size of this machine."""

    cpus = ma_fields.Integer(required=True, metadata={"description": "Processors that the daemon may use."})
    memory_mb = ma_fields.Integer(required=True, metadata={"description": "Memory in MiB."})
    disk_mb = ma_fields.Integer(required=True, metadata={"description": "Size of the root file system in MiB."})


class Sandbox(Schema):
    """The machine of the daemon, as a sandbox."""

    id = ma_fields.String(required=True, metadata={"description": "Always `local`."})
    namespace = ma_fields.String(required=True, metadata={"description": "The namespace that was asked for."})
    status = ma_fields.String(required=True, metadata={"description": "Always `running`."})
    resources = ma_fields.Nested(SandboxResources, required=True, metadata={"description": "Size of the machine."})
    sandbox_url = ma_fields.String(required=True, metadata={"description": "URL of this API, as the client has it."})


class SandboxList(Schema):
    """The sandboxes: this machine."""

    sandboxes = ma_fields.List(ma_fields.Nested(Sandbox), required=True, metadata={"description": "Always one."})


class CreatedSandbox(Schema):
    """The machine of the daemon, as the answer to the wish for a sandbox."""

    sandbox_id = ma_fields.String(required=True, metadata={"description": "Always `local`."})
    status = ma_fields.String(required=True, metadata={"description": "Always `running`."})
    sandbox_url = ma_fields.String(required=True, metadata={"description": "URL of this API, as the client has it."})


class Key(Schema):
    """The owner of a token, in the words of a cloud."""

    id = ma_fields.String(required=True, metadata={"description": "Always `local`."})
    organizationId = ma_fields.String(  # noqa: N815 - the client's name
        required=True, metadata={"description": "Always `local`."}
    )
    projectId = ma_fields.String(  # noqa: N815 - the client's name
        required=True, metadata={"description": "Always `local`."}
    )


class TunnelQuery(Strict):
    """The query string of a tunnel."""

    port = fields.QueryInteger(
        required=True, low=1, high=fields.MAX_PORT, metadata={"description": "Port on loopback.", "example": 8080}
    )
