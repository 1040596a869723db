"""The commands that no method brings: each reads its arguments, calls one function and prints what came of it."""
