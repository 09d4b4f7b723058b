"""Labels of metrics that are made of tags."""

import re

_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")


def tag_label(tag: str) -> str:
    """Return the label for a tag: `tag_` and the name of the tag, with `_` for what a label cannot have."""
    return "tag_" + _NOT_IN_LABELS.sub("_", tag)
