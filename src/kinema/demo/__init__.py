"""The whole flow on a laptop: curate, plan, train, generate, and one page that shows it."""
