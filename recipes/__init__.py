"""How the data that comes with the library was made; see README.md."""
