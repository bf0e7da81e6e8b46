"""Messages in Slack."""


def escaped(text: str) -> str:
    """Text that Slack shows as it is, mentions and links included."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
