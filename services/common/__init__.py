"""Nouns that at least three services share: clock, errors, names, schema, settings, lifecycle, telemetry, database…

Not a place for helpers without a home: every module here is a noun that the field knows.
"""
