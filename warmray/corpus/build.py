"""Writes one Parquet file per variant, with a manifest, under a name made from the content."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from warmray.config import CorpusConfig
from warmray.corpus.conversations import (
    VARIANTS,
    Conversation,
    Message,
    Split,
    Variant,
    packaged_corpus,
    read_conversations,
)
from warmray.errors import storage_error
from warmray.storage.hashing import digest
from warmray.storage.home import home, make_folder


@dataclass(frozen=True)
class Corpus:
    """A built corpus: ``<variant>.parquet`` (id, category, split, messages) and ``manifest.json``."""

    folder: Path
    digest: str

    def read(self, variant: Variant, split: Split) -> dict[str, list[Message]]:
        """Return the conversations of one split, by id, with the replies of one variant."""
        table = pd.read_parquet(self.folder / f"{variant}.parquet")
        rows = table[table["split"] == split]
        return {row.id: [dict(m) for m in row.messages] for row in rows.itertuples()}


def build_corpus(config: CorpusConfig) -> Corpus:
    """Check the source conversations and write the training sets, unless the same content is there already.

    Raises:
        InputError: the source breaks the format, or the output folder cannot be written.
    """
    source = packaged_corpus() if config.path == "packaged" else Path(config.path)
    conversations = read_conversations(source)
    name = digest([[c.id, c.category, c.split, [c.messages(v) for v in VARIANTS]] for c in conversations])
    folder = home() / "corpora" / name
    if not folder.exists():
        make_folder(folder.parent)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
        try:
            _write(conversations, source, name, building)
            building.chmod(0o755)
            os.rename(building, folder)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            if not folder.exists():
                raise storage_error(error, folder.parent) from error
    return Corpus(folder, name)


def _write(conversations: list[Conversation], source: Path, name: str, folder: Path) -> None:
    for variant in VARIANTS:
        rows = [
            {"id": c.id, "category": c.category, "split": c.split, "messages": c.messages(variant)}
            for c in conversations
        ]
        pd.DataFrame(rows).to_parquet(folder / f"{variant}.parquet", index=False)
    manifest = {
        "source": "packaged with warmray" if source == packaged_corpus() else str(source),
        "digest": name,
        "variants": list(VARIANTS),
        "conversations": len(conversations),
        "kept_by_split": Counter(c.split for c in conversations),
        "kept_by_category": Counter(c.category for c in conversations),
        "dropped": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
