"""How many messages had to wait before they could be sent: each counts once, at the first look that finds it waiting."""

from hawk.core.backlog import Backlog
from hawk.core.commits import Commits
from hawk.core.ledger import Books


class Waited:
    """Counts into the books. `looked_at`: up to this number all that waits is counted."""

    def __init__(self, books: Books, backlog: Backlog, commits: Commits) -> None:
        self._books = books
        self._backlog = backlog
        self._commits = commits
        self.looked_at = 0

    def count(self) -> None:
        """Look at what waits now."""
        waited, looked_at, newest = 0, self.looked_at, self.looked_at
        committed = self._commits.committed_number
        for entry in reversed(self._backlog.head):
            number = entry.number
            if number <= looked_at:
                break
            if number > committed and entry.message.qos:
                # It waits for the disk, and so do those behind it; they are looked at when it is committed.
                waited, newest = 0, looked_at
                continue
            waited += 1
            if number > newest:
                newest = number
        self._books.waited += waited
        self.looked_at = newest
