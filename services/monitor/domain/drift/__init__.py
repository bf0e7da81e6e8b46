"""Whether a version's features and outputs still look as its baseline does. Pure; the engines carry it out."""
