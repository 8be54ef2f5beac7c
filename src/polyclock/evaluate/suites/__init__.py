"""Published benchmarks of video generation: their prompts, folders of films, and totals; and what needs no weights."""
