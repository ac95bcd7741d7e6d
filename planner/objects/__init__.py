"""Agents in the path's coordinates: where and when they are in the way."""
