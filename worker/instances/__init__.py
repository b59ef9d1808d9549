"""Instances at their brokers: list, refresh, create, adopt, repair (design 6)."""
