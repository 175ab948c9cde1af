"""How the guides that come with the package were made, and what the papers' choices do."""
