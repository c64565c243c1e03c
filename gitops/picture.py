"""Draws the way of a release by pull request: python -m gitops.picture, which writes docs/gitops.svg."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from operations.stack import PROJECT

FILE = PROJECT / "docs/gitops.svg"
WIDTH, HEIGHT, GAP, LINE = 200, 112, 44, 17
MARGIN, TOP = 16, 56
REFUSED = 60
"""From a box to what comes of a plan that is another one."""

FONT = 'font-family="sans-serif" font-size="14"'
HEAD = """<title>The way of a release by pull request</title>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#57606a"/></marker></defs>"""


@dataclass(frozen=True)
class Box:
    """A stage. who: who does it. text: what, a line each. refuses: whether it stops at another fingerprint."""

    title: str
    who: str
    text: tuple[str, ...]
    refuses: bool = False


WAY = (
    Box("branch", "somebody", ("sets the tag in", "Pulumi.<stack>.yaml")),
    Box("pull request", "job", ("previews each stack,", "comments the plan and", "its fingerprint")),
    Box("merge", "reviewer", ("approves the plan", "that is shown")),
    Box("staging", "job", ("previews again,", "deploys that plan"), refuses=True),
    Box("plan of production", "job", ("previews, shows the", "plan in its summary")),
    Box("approval", "reviewer", ("lets the job go on",)),
    Box("production", "job", ("previews again,", "deploys that plan"), refuses=True),
)


def svg() -> str:
    """The picture."""
    width = 2 * MARGIN + len(WAY) * WIDTH + (len(WAY) - 1) * GAP
    height = TOP + HEIGHT + REFUSED + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>',
        HEAD,
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, box in enumerate(WAY):
        left = MARGIN + number * (WIDTH + GAP)
        parts += _box(box, left)
        if number + 1 < len(WAY):
            parts.append(_arrow(f"M{left + WIDTH} {TOP + HEIGHT // 2}h{GAP - 2}"))
    last = MARGIN + (len(WAY) - 1) * (WIDTH + GAP) + WIDTH // 2
    parts.append(_arrow(f"M{last} {TOP}v-28H{MARGIN + WIDTH // 2}v26", dashed=True))
    parts.append(_text((last + MARGIN) // 2, 22, "the way back: git revert, and the same way again", anchor="middle"))
    return "\n".join([*parts, "</svg>", ""])


def _box(box: Box, left: int) -> list[str]:
    fill = "#ddf4ff" if box.who == "job" else "#fff8c5"
    lines = [
        f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{fill}" stroke="#57606a"/>',
        _text(left + 12, TOP + 24, box.title, weight="bold"),
        _text(left + WIDTH - 12, TOP + 24, box.who, anchor="end", fill="#57606a"),
        *(_text(left + 12, TOP + 52 + row * LINE, text) for row, text in enumerate(box.text)),
    ]
    if box.refuses:
        below = TOP + HEIGHT
        lines += [
            _arrow(f"M{left + WIDTH // 2} {below}v{REFUSED - 22}"),
            _text(left + WIDTH // 2, below + REFUSED, "another fingerprint: refused,", anchor="middle", fill="#a40e26"),
            _text(left + WIDTH // 2, below + REFUSED + LINE, "nothing is changed", anchor="middle", fill="#a40e26"),
        ]
    return lines


def _arrow(path: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="6 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="#57606a" stroke-width="1.5" marker-end="url(#head)"{dashes}/>'


def _text(
    left: int, top: int, text: str, *, anchor: str = "start", weight: str = "normal", fill: str = "#1f2328"
) -> str:
    return (
        f'<text x="{left}" y="{top}" text-anchor="{anchor}" font-weight="{weight}" fill="{fill}">{escape(text)}</text>'
    )


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
