"""Lockmaster."""
