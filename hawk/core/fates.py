"""What became of each message: counted, told to its sender, and forgotten by the store. Nothing ends without passing here."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hawk.core.commits import Commits
from hawk.core.delivery import Entry
from hawk.core.ledger import Books
from hawk.messages import ReplyReference
from hawk.values import Fate, FateKind, Message

ACKNOWLEDGED = Fate(FateKind.ACKNOWLEDGED)

_BY_POLICY = frozenset({FateKind.DROPPED, FateKind.EXPIRED, FateKind.SUPERSEDED})


class Told(NamedTuple):
    """An answer for a sender: so many of its messages, this one first, are accepted (`fate` None) or have met a fate."""

    reply: ReplyReference
    message: Message
    fate: Fate | None
    messages: int = 1


class Fates:
    """The answers that senders are owed, the books, and the deletions that follow."""

    def __init__(self, books: Books, commits: Commits) -> None:
        self.books = books
        self._commits = commits
        self.answers: list[Told] = []
        self.watched = False

    def accept(self, reply: ReplyReference, message: Message, messages: int = 1) -> None:
        """So many messages of this sender, this one first, are accepted."""
        self.answers.append(Told(reply, message, None, messages))

    def accept_all(self, entries: Iterable[Entry]) -> None:
        """What `accept` does for each, with one answer for a run of one sender's."""
        reply: ReplyReference = nobody
        message, messages = None, 0
        for entry in entries:
            if entry.reply is not reply or message is None:
                if message is not None:
                    self.accept(reply, message, messages)
                reply, message, messages = entry.reply, entry.message, 0
            messages += 1
        if message is not None:
            self.accept(reply, message, messages)

    def refuse(self, reply: ReplyReference, message: Message, fate: Fate) -> None:
        """This message was never accepted."""
        self.answers.append(Told(reply, message, fate))

    def end(self, entry: Entry, fate: Fate, *, withholds: bool = False) -> None:
        """This entry has met its fate. `withholds`: the broker's session may hold it, and its identifier is withheld."""
        self.books.end(fate.kind)
        if fate.kind in _BY_POLICY and self._commits.is_unwritten(entry):
            # Let in and out again before the store could speak: a sender who waits for its word has it.
            self.accept(entry.reply, entry.message)
        self.answers.append(Told(entry.reply, entry.message, fate))
        if fate.kind is FateKind.DEAD_LETTERED and entry.number > 0:
            self._commits.bury(entry, fate, withholds=withholds)
        else:
            self._commits.delete(entry, withholds=withholds)

    def end_kept(self, number: int, reply: ReplyReference | None, message: Message, fate: Fate) -> None:
        """A message that only the store has has met its fate. `message` is what is known of it."""
        self.books.end(fate.kind)
        self._commits.delete_number(number)
        if reply is not None or self.watched:
            self.answers.append(Told(nobody if reply is None else reply, message, fate))

    def end_all(self, entries: Sequence[Entry]) -> None:
        """What `end` does for each of a run of acknowledged entries, with one answer for each sender who still listens."""
        self.books.end(FateKind.ACKNOWLEDGED, len(entries))
        self._commits.delete_all(entries)
        reply: ReplyReference = nobody
        first, messages, listens = entries[0], 0, False
        for entry in entries:
            if entry.reply is not reply or self.watched:
                if messages:
                    self.answers.append(Told(reply, first.message, ACKNOWLEDGED, messages))
                reply, first, messages = entry.reply, entry, 0
                listens = self.watched or reply() is not None
            messages += listens
        if messages:
            self.answers.append(Told(reply, first.message, ACKNOWLEDGED, messages))

    def take_answers(self) -> list[Told]:
        """What senders are to be told, in order."""
        answers, self.answers = self.answers, []
        return answers


def nobody() -> None:
    """The reply reference of a message whose sender is not there any more."""
    return
