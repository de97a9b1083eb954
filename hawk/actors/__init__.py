"""The actors: shells that receive, ask their core, and send. None imports another."""
