"""The version, in the one place that the build, `trimtab --version` and every manifest read."""

__version__ = "0.1.0"
