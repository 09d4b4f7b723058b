"""Operators' SQL queries, which run in a process of their own."""
