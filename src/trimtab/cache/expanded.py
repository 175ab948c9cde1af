"""Placeholder."""


class ExpandedReader:
    pass
