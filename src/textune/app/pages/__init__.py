"""One module per page, each with one function `draw`. What can be tested without a page lies beside this package."""
