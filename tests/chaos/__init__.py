"""Campaigns that kill, and a checker that believes nothing. See docs/chaos.md."""
