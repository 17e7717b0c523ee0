"""Scripts that are run by hand need more than the tests do."""

collect_ignore = ["make_golden.py", "against_pytrac.py"]
