"""Type ``resource``: vector packing of items onto nodes of one or several types, with a proven lower bound.

`problem` is the question in whole numbers, `packing` an answer to it. `first_fit_decreasing`, `balanced` and
`admission` make first answers, `search` improves them, `bounds` proves how good they are, and
`proof` decides when that ends the work.
"""
