"""One module a command, each with `run(words) -> exit status`; what is slow to import is imported inside."""
