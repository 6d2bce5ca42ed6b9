"""Agents and workflows as definitions: their schema, their policies, and the directory that finds them."""
