"""The decode loop and its parts: rules, selects, methods. Knows no particular model or guide."""
