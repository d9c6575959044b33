"""Commands about who an anonymous visitor is: identity contests, unclaim, allow, acts."""

from typing import Any

import click
import msgspec

from domain.timing import iso_text
from operations import show
from operations.cli.run import FAILED, Run, as_json, ask, command, err, out, tell_json
from operations.identity import Done, act, checked_reason, find, pair_to_allow, pair_to_unclaim
from sinks.postgres import queries
from sinks.postgres.database import Connection

_reason = click.option("--reason", required=True, help="Why: kept in the audit trail.")


@click.group()
def identity() -> None:
    """Look at whose an anonymous visitor is, and take apart what does not belong together."""


@identity.command("contests")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many of the latest.")
@as_json
@command
def contests(told: Run, *, limit: int, as_json: bool) -> None:
    """List anonymous visitors that several users claim: the earliest claim holds.

    \b
    tidemark identity contests --limit 5
    """  # noqa: D301
    found = ask(told, lambda connection: queries.contests(connection, limit))
    if as_json:
        tell_json([{**each, "since": iso_text(each["since"])} for each in found])
    elif not found:
        err.print("Nobody contests anybody.")
    for line in () if as_json else show.contests(found):
        out.print(line, soft_wrap=True)


@identity.command("unclaim")
@click.argument("anonymous", metavar="ANON")
@_reason
@click.option("--user", metavar="USER", help="Whose claim to set aside.  [default: the owner's]")
@as_json
@command
def unclaim(told: Run, *, anonymous: str, reason: str, user: str | None, as_json: bool) -> int:
    """Take the anonymousId ANON out of the profile of its owner, with everything that came under it.

    It goes to whoever has claimed it next, else it is a profile of its own. The pair stays apart, whatever messages
    say of it, until `tidemark identity allow`.

    \b
    tidemark identity unclaim 3f2b6c1e-… --reason "tablet in the shop, ticket 4711"
    tidemark identity unclaim 3f2b6c1e-… --user u-1002 --reason "support logged in for him"
    """  # noqa: D301
    text = checked_reason(reason)
    settings = told.with_both()

    async def work(connection: Connection) -> Done:
        found = await find(connection, anonymous)
        chosen = pair_to_unclaim(found, user)
        return await act(settings, connection, found, chosen, is_allowed=False, reason=text)

    return _tell(ask(told, work), as_json=as_json)


@identity.command("allow")
@click.argument("anonymous", metavar="ANON")
@click.option("--user", metavar="USER", required=True, help="Whose claim shall count again.")
@_reason
@as_json
@command
def allow(told: Run, *, anonymous: str, user: str, reason: str, as_json: bool) -> int:
    """Let a pair that was taken apart count again: the claims of USER on ANON are as if nothing had been.

    \b
    tidemark identity allow 3f2b6c1e-… --user u-1001 --reason "it was his own tablet after all"
    """  # noqa: D301
    text = checked_reason(reason)
    settings = told.with_both()

    async def work(connection: Connection) -> Done:
        found = await find(connection, anonymous)
        return await act(settings, connection, found, pair_to_allow(found, user), is_allowed=True, reason=text)

    return _tell(ask(told, work), as_json=as_json)


def _tell(done: Done, *, as_json: bool) -> int:
    if as_json:
        tell_json(msgspec.to_builtins(done))
    elif done.is_applied:
        out.print(show.cell(_became(done)), soft_wrap=True)
    else:
        err.print(
            show.cell(
                f"tidemark: act {done.act_id} on {done.leaf} and {done.user} is sent, and no worker has taken it in "
                "yet. It is not lost: see that workers run (tidemark status), then tidemark identity acts."
            ),
            soft_wrap=True,
        )
    return 0 if done.is_applied else FAILED


def _became(done: Done) -> str:
    if done.after is None:
        what = "nothing else speaks of it: it is in no profile any more"
    elif done.after == done.before:
        what = (
            f"it belongs to {done.after}, as before" if done.after != done.leaf else "it is its own profile, as before"
        )
    elif done.after == done.leaf:
        what = f"it is a profile of its own now, and no longer part of {done.before}"
    else:
        what = f"it belongs to {done.after} now"
    return f"{done.leaf}: {what}. Act {done.act_id}."


@identity.command("acts")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many of the newest.")
@as_json
@command
def acts(told: Run, *, limit: int, as_json: bool) -> None:
    """List what operators did to identities, and why, the newest first."""
    found: list[dict[str, Any]] = ask(told, lambda connection: queries.identity_acts(connection, limit))
    if as_json:
        tell_json([{**each, "acted_at": iso_text(each["acted_at"])} for each in found])
    elif not found:
        err.print("No operator has done anything yet.")
    for line in () if as_json else show.acts(found):
        out.print(line, soft_wrap=True)
