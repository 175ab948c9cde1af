"""Programs for those who work on trimtab; none of them is installed with it."""
