"""What artifacts state, read without running them: nothing is executed, unpickled, imported or fetched.

Each reader says of an artifact why it is not of its kind, by what is in it and never by its name alone, and reads what
is. Files are hostile until shown otherwise: every size, count and depth is bounded, and what breaks a bound or a format
is `Refused`.
"""
