"""The resources as pydantic models, and what every room needs to speak of them. Imports no other room."""
