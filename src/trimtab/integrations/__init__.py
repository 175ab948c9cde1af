"""The same `Method` objects inside other engines."""
