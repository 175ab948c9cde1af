"""Reading growing prefixes with transformers' decoders, without reading anything twice.

`slots` holds keys and values, `masks` says who sees whom, `tree` reads k candidates over one
shared prefix in one forward, `expanded` does the same by k copies for architectures that cannot
take such a mask.
"""
