"""What applications test with: an in-process broker, virtual time, links that fail on purpose, checkers of histories."""
