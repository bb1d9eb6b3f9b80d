"""Plugins for Engine-Ops."""
