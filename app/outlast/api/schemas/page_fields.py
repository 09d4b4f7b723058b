"""Parameters that calls share which answer page by page, or select processes."""

from marshmallow import validate

from outlast.api.schemas import fields, process_fields
from outlast.api.schemas.base import Strict
from outlast.model.process import Order


def page_limit(what: str, *, default: int, high: int) -> fields.QueryInteger:
    """Return the parameter `limit` of a page of `what`."""
    return fields.QueryInteger(
        low=1, high=high, load_default=default, metadata={"description": f"Maximum number of {what} in the answer."}
    )


def name_filter(what: str) -> fields.String:
    """Return the parameter that selects `what` by the exact name of the process."""
    return fields.String(
        validate=validate.Length(min=1, error="must not be empty"),
        metadata={"description": f"Only {what} with exactly this name."},
    )


def tag_filter(what: str) -> process_fields.TagFilters:
    """Return the parameter that selects `what` by tags of the process."""
    return process_fields.TagFilters(
        metadata={"description": f"Only {what} with this tag, as `key:value`. Repeat the parameter to require several."}
    )


class OrderedPage(Strict):
    """Parameters of a list that can be read from either end."""

    order = fields.Choice(
        Order,
        load_default=Order.NEWEST,
        metadata={"description": "`newest` or `oldest` first.", "default": Order.NEWEST},
    )
    cursor = fields.String(
        metadata={
            "description": "`next` of the previous page. The other parameters must be those of the previous page, "
            "except `limit`."
        }
    )
