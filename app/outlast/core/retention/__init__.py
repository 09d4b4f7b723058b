"""Retention: what is deleted by the settings `keep_...`, and the task that deletes it."""
