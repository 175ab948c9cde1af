"""The decode loop and its parts: rules, samplers, methods. Knows no particular model or guide."""
