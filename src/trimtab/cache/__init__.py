"""Reading growing prefixes with transformers' decoders, without reading anything twice.

`reader` has the contract and both ways to read k candidates, `slots` holds keys and values,
`networks` asks configs and answers a network that asks who sees whom, `trial` opens a reader.
"""
