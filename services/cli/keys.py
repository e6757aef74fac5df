"""`promptreel keys`: the API keys of an installation, here or for one that runs elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.api.keys.document import ApiKey, KeyDocument, Scope, new_key, revoked, rotated
from services.api.keys.secret_source import key_source
from services.api.keys.sources import KeyFile, KeySource
from services.cli.exits import EXIT_USAGE, CommandFailed
from services.cli.output import Output
from services.cli.spans import span
from shared.config import Config, find_config, load_config
from shared.errors import KeyUnknown, TransientError
from shared.settings import read_settings
from shared.wiring import wire

_WIDTHS = (8, 20, 10, 16, 16, 0)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a new key is to be."""

    owner: str
    scopes: tuple[str, ...]
    plan: str | None
    note: str | None
    expires: str | None


@dataclass(frozen=True)
class Place:
    """Where the keys are: in a file, else where the configuration says."""

    config_file: Path | None
    key_file: Path | None

    @property
    def config(self) -> Config | None:
        """None if it is not asked."""
        if self.key_file is not None:
            return None
        return load_config(find_config(self.config_file or read_settings().config_file))

    @property
    def source(self) -> KeySource:
        if self.key_file is not None:
            return KeyFile(self.key_file)
        config = self.config
        assert config is not None  # noqa: S101 - there is no file
        return key_source(config)


def create_key(wanted: Wanted, place: Place, output: Output) -> None:
    config, now = place.config, datetime.now(UTC)
    if config is not None and wanted.plan is not None and wanted.plan not in config.plans:
        raise CommandFailed(
            f"There is no plan {wanted.plan}; the configuration has {', '.join(config.plans)}.",
            EXIT_USAGE,
        )
    try:
        key, entry = new_key(
            wanted.owner,
            now,
            scopes=tuple(Scope(scope) for scope in wanted.scopes),
            plan=wanted.plan,
            note=wanted.note,
            expires_at=None if wanted.expires is None else now + span(wanted.expires),
        )
    except ValueError:
        raise CommandFailed(
            "An owner has 1 to 200 characters, a note 200 at most.", EXIT_USAGE
        ) from None
    place.source.edit(lambda document: document.with_key(entry))
    _show(key, entry, output)


def list_keys(place: Place, output: Output) -> None:
    now = datetime.now(UTC)
    keys = place.source.load().keys
    uses = _uses(place.config, output)
    if not output.as_json:
        output.result(_line("ID", "OWNER", "SCOPES", "STATE", "LAST USED", "NOTE"), {})
    for key in sorted(keys, key=lambda key: key.created_at):
        used_at = uses.get(key.id)
        row = _line(
            key.id,
            key.owner,
            ",".join(key.scopes),
            _state(key, now),
            f"{used_at.astimezone():%Y-%m-%d %H:%M}" if used_at else "never",
            key.note or "",
        )
        output.result(row, _described(key) | {"last_used_at": used_at and used_at.isoformat()})


def revoke_key(key_id: str, place: Place, output: Output) -> None:
    now = datetime.now(UTC)

    def change(document: KeyDocument) -> KeyDocument:
        return revoked(document, _id(key_id), now=now)

    try:
        place.source.edit(change)
    except KeyUnknown as error:
        raise CommandFailed(error.message, EXIT_USAGE) from None
    output.result(f"{_id(key_id)} opens nothing any more", {"id": _id(key_id), "revoked": True})


def rotate_key(
    key_id: str, overlap: str, expires: str | None, place: Place, output: Output
) -> None:
    now, source = datetime.now(UTC), place.source
    try:
        old = source.load().find(_id(key_id))
        key, successor = new_key(
            old.owner,
            now,
            scopes=old.scopes,
            plan=old.plan,
            note=old.note,
            expires_at=None if expires is None else now + span(expires),
        )
        kept = span(overlap)

        def change(document: KeyDocument) -> KeyDocument:
            return rotated(document, old.id, successor, now=now, overlap=kept)

        source.edit(change)
    except KeyUnknown as error:
        raise CommandFailed(error.message, EXIT_USAGE) from None
    output.remark(f"{old.id} counts until {(now + kept).astimezone():%Y-%m-%d %H:%M}.")
    _show(key, successor, output)


def _show(key: str, entry: ApiKey, output: Output) -> None:
    output.remark("Keep the key: it cannot be read again.")
    output.result(key, _described(entry) | {"key": key})


def _described(key: ApiKey) -> dict[str, object]:
    return key.model_dump(mode="json", exclude={"hash"})


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "good"
    return f"until {key.expires_at.astimezone():%Y-%m-%d}" if key.counts(now) else "expired"


def _uses(config: Config | None, output: Output) -> Mapping[str, datetime]:
    """When they were used last; a store that cannot be asked keeps nobody from seeing the keys."""
    if config is None:
        return {}
    wiring = wire(config)
    try:
        return wiring.store.key_uses()
    except TransientError as error:
        output.remark(f"When they were used last cannot be told: {error.message}.")
        return {}
    finally:
        wiring.close()


def _id(said: str) -> str:
    """Of what a person may copy: the id, or the beginning of the key."""
    return said.removeprefix("pr_").partition("_")[0]


def _line(*cells: str) -> str:
    return "  ".join(
        f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)
    ).rstrip()
