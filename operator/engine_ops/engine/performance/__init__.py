"""Requests and limits for containers, from samples of what they used."""
